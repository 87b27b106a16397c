//! Why a port cannot be had, in words: people meet this at their first start.

use std::io::{Error, ErrorKind};

/// What to tell about an `addr` that cannot be listened on, with the next step.
#[must_use]
pub fn refused(addr: &str, cause: &Error) -> String {
    let why = match cause.kind() {
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address (its own are listed by: ip -brief address)".to_owned()
        }
        ErrorKind::AddrInUse => {
            "another program listens there; is a coordinator running already? choose another --listen"
                .to_owned()
        }
        ErrorKind::PermissionDenied if is_privileged(addr) => {
            "ports below 1024 need root; choose another --listen".to_owned()
        }
        _ => cause.to_string(),
    };
    format!("cannot listen on {addr}: {why}")
}

fn is_privileged(addr: &str) -> bool {
    addr.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).is_some_and(|port: u16| port < 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_stands_for_a_reason() {
        for (port, number, words) in
            [(7733, 99, "no such address"), (7733, 98, "another program"), (80, 13, "need root")]
        {
            let addr = format!("10.0.0.4:{port}");
            let said = refused(&addr, &Error::from_raw_os_error(number));
            assert!(
                said.starts_with(&format!("cannot listen on {addr}: ")) && said.contains(words),
                "{said}"
            );
            assert!(!said.contains("os error"), "{said}");
        }
        let said = refused("10.0.0.4:7733", &Error::from_raw_os_error(13));
        assert!(!said.contains("root"), "it is no matter of the port: {said}");
    }
}

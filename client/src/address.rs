//! Where a coordinator is, as people write it: a host and a port, checked before anything is sent there.

use crate::access::{Access, DEFAULT_ADDR, Place};
use crate::error::{Error, Result};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What holds if nobody says a port.
const DEFAULT_PORT: u16 = 7733;

/// Whether an address may go without a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Then it is 7733.
    Defaulted,
    /// An address without one is refused.
    Required,
}

/// A host and a port. Shown as `host:port`, an IPv6 address in brackets, in small letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The address of an [`Access`].
    ///
    /// # Errors
    /// [`Error::Usage`], saying what is wrong with it and who said it.
    pub fn of(access: &Access, port: Port) -> Result<Address> {
        Address::parse(&access.addr, port).map_err(|problem| refused(access, problem))
    }

    /// `host`, `host:port`, `http://host:port/`, `[v6]:port`, and a bare IPv6 address where no port is required.
    fn parse(text: &str, port: Port) -> std::result::Result<Address, &'static str> {
        let text = text.trim();
        if text.starts_with("https://") {
            return Err("https is not supported; use http:// or no scheme on a network that you trust");
        }
        let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let (host, typed) = match text.rsplit_once(':') {
            _ if text.parse::<Ipv6Addr>().is_ok() => (format!("[{text}]"), None),
            Some((host, typed)) if !typed.contains(']') => (host.to_lowercase(), Some(typed)),
            _ => (text.to_lowercase(), None),
        };
        is_host(&host)?;
        let port = match (typed, port) {
            (Some(typed), _) => number(typed)?,
            (None, Port::Defaulted) => DEFAULT_PORT,
            (None, Port::Required) => return Err("the port is missing"),
        };
        Ok(Address { host, port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Whether two addresses, however written, are the same one.
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    let parse = |text| Address::parse(text, Port::Defaulted);
    matches!((parse(a), parse(b)), (Ok(a), Ok(b)) if a == b)
}

/// What is wrong with an address, who said it, and how to write one.
pub(crate) fn refused(access: &Access, problem: &str) -> Error {
    let from = match &access.origin.addr {
        Place::Given => String::new(),
        place => format!(" (from {place})"),
    };
    Error::Usage(format!(
        "{:?}{from} is not an address: {problem}; write HOST:PORT, such as {DEFAULT_ADDR} or [::1]:7733",
        access.addr
    ))
}

fn number(typed: &str) -> std::result::Result<u16, &'static str> {
    // A number may not begin with + or 0, which `parse` would take.
    let plain = typed.bytes().all(|byte| byte.is_ascii_digit()) && !typed.starts_with('0');
    let port = if plain { typed.parse().ok() } else { None };
    port.ok_or("the port is not a number from 1 to 65535")
}

fn is_host(host: &str) -> std::result::Result<(), &'static str> {
    if host.is_empty() {
        return Err("the host is missing");
    }
    if !host.is_ascii() {
        return Err("the host is not ASCII; write such a name in its xn-- form");
    }
    let good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            host.parse::<Ipv4Addr>().is_ok()
        }
        None => is_name(host),
    };
    if good { Ok(()) } else { Err("that is no host") }
}

/// Labels of letters, digits, dashes and underscores between single dots.
fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Token;

    fn parse(text: &str, port: Port) -> std::result::Result<String, &'static str> {
        Address::parse(text, port).map(|address| address.to_string())
    }

    #[test]
    fn addresses_as_people_write_them() {
        for (written, meant) in [
            ("127.0.0.1:7733", "127.0.0.1:7733"),
            ("http://127.0.0.1:7733/", "127.0.0.1:7733"),
            ("gpu-1.rack_2.Example.org:80", "gpu-1.rack_2.example.org:80"),
            ("example.org.:80", "example.org.:80"),
            ("xn--mnchen-3ya.de:80", "xn--mnchen-3ya.de:80"),
            ("[::1]:65535", "[::1]:65535"),
        ] {
            assert_eq!(parse(written, Port::Required).as_deref(), Ok(meant));
            assert_eq!(parse(written, Port::Defaulted).as_deref(), Ok(meant));
            assert!(tonic::transport::Endpoint::from_shared(format!("http://{meant}")).is_ok(), "{meant}");
        }
        assert!(is_same("http://localhost:7733", "LOCALHOST"));
    }

    #[test]
    fn a_port_is_required_or_taken_for_granted() {
        for (written, meant) in [
            (" Example.org ", "example.org:7733"),
            ("localhost", "localhost:7733"),
            ("::1", "[::1]:7733"),
            ("[::1]", "[::1]:7733"),
        ] {
            assert_eq!(parse(written, Port::Defaulted).as_deref(), Ok(meant));
            assert_eq!(parse(written, Port::Required), Err("the port is missing"), "{written}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_either_way() {
        for wrong in [
            "",
            ":7733",
            "h:",
            "h:0",
            "h:+1",
            "h:080",
            "h:70000",
            "h:http",
            "a..b:1",
            "-a:1",
            "[::g]:1",
            "1.2.3:1",
            "300.1.1.1:80",
            "a b:1",
            "u@h:1",
            "h/x",
            "https://h:1",
            "münchen.de:80",
            "h:1:2",
        ] {
            assert!(parse(wrong, Port::Required).is_err(), "{wrong:?}");
            assert!(parse(wrong, Port::Defaulted).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_refusal_says_how_to_write_one() {
        let access = Access::new("bogus", Token::new("t").unwrap());
        let said = Address::of(&access, Port::Required).unwrap_err().to_string();
        assert!(said.contains("the port is missing; write HOST:PORT"), "{said}");
    }
}

//! `taskq-server health`: one question to a running coordinator, for people and for whatever restarts containers. It
//! needs no token, and reads no more of the access file than the address.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    access::{self, FILE},
    config::{DEFAULT_LISTEN, default_data, span},
    dial,
};

/// Where to ask, and how long to wait.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// The coordinator's address; otherwise an access file says it [env: TASKQ_ADDR]
    #[arg(long, value_name = "HOST:PORT")]
    pub addr: Option<String>,

    /// The access file that says the address [env: TASKQ_ACCESS]
    #[arg(long, value_name = "FILE", conflicts_with = "addr")]
    pub access: Option<PathBuf>,

    /// The data directory in which the access file is [env: TASKQ_DATA] [default: $XDG_DATA_HOME/taskq]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["addr", "access"])]
    pub data: Option<PathBuf>,

    /// How long the answer may take
    #[arg(long, default_value = "3s", value_name = "TIME", value_parser = span)]
    pub timeout: Duration,
}

/// Why no coordinator serves there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody has written down an address.
    #[error(
        "{path} does not exist: no coordinator has got ready there yet; wait for the first start, or say where it is \
         with --addr HOST:PORT"
    )]
    Unknown {
        /// Where it would be.
        path: PathBuf,
    },
    /// The access file has no address.
    #[error("{path} has no line `addr = \"HOST:PORT\"`; say where the coordinator is with --addr HOST:PORT")]
    NoAddress {
        /// Which file.
        path: PathBuf,
    },
    /// The access file cannot be read.
    #[error(transparent)]
    Access(#[from] access::Error),
    /// The coordinator does not serve.
    #[error("not serving: {0}")]
    NotServing(#[from] dial::Error),
}

impl Error {
    /// 69 whatever the reason: who asks wants to know whether to restart it.
    pub(super) fn code(&self) -> u8 {
        match self {
            Error::Unknown { .. } | Error::NoAddress { .. } | Error::Access(_) | Error::NotServing(_) => 69,
        }
    }
}

pub(super) async fn health(args: &Args) -> Result<(), Error> {
    let addr = args.address(&|name| std::env::var_os(name).filter(|value| !value.is_empty()))?;
    let start = Instant::now();
    dial::health(&addr, args.timeout).await?;
    println!("serving at {addr} (answered in {} ms)", start.elapsed().as_millis());
    Ok(())
}

impl Args {
    /// Flags come before the environment, and that before the default.
    fn address(&self, env: &dyn Fn(&str) -> Option<std::ffi::OsString>) -> Result<String, Error> {
        if let Some(addr) = &self.addr {
            return Ok(addr.clone());
        }
        let named = match (&self.access, &self.data) {
            (Some(file), _) => Some(file.clone()),
            (None, Some(dir)) => Some(dir.join(FILE)),
            (None, None) => None,
        };
        if named.is_none()
            && let Some(addr) = env("TASKQ_ADDR")
        {
            return Ok(addr.to_string_lossy().into_owned());
        }
        let file = named
            .or_else(|| env("TASKQ_ACCESS").map(PathBuf::from))
            .or_else(|| env("TASKQ_DATA").map(|dir| PathBuf::from(dir).join(FILE)))
            .or_else(|| default_data().map(|dir| dir.join(FILE)));
        // Without a home there is no access file, but there may be a coordinator.
        let Some(path) = file else { return Ok(DEFAULT_LISTEN.to_owned()) };
        match access::addr_of(&path)? {
            Some(addr) => Ok(addr),
            None if path.exists() => Err(Error::NoAddress { path }),
            None => Err(Error::Unknown { path }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, addr: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), format!("addr = \"{addr}\"\ntoken = \"t\"\n")).unwrap();
        dir
    }

    #[test]
    fn flags_come_before_the_environment() {
        let (data, other) = (file(FILE, "127.0.0.1:1"), file("other.toml", "127.0.0.1:2"));
        let env = |name: &str| match name {
            "TASKQ_ADDR" => Some("127.0.0.1:3".into()),
            "TASKQ_ACCESS" => Some(other.path().join("other.toml").into_os_string()),
            _ => None,
        };
        let only_files = |name: &str| env(name).filter(|_| name != "TASKQ_ADDR");
        let none = Args::default();
        let addr = Args { addr: Some("127.0.0.1:4".into()), ..Args::default() };
        let dir = Args { data: Some(data.path().into()), ..Args::default() };
        assert_eq!(addr.address(&env).unwrap(), "127.0.0.1:4");
        assert_eq!(dir.address(&env).unwrap(), "127.0.0.1:1");
        assert_eq!(none.address(&env).unwrap(), "127.0.0.1:3");
        assert_eq!(none.address(&only_files).unwrap(), "127.0.0.1:2");
        let in_data = |name: &str| (name == "TASKQ_DATA").then(|| data.path().into());
        assert_eq!(none.address(&in_data).unwrap(), "127.0.0.1:1");
    }

    #[test]
    fn a_file_that_says_no_address_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let asked = Args { data: Some(dir.path().into()), ..Args::default() };
        assert!(matches!(asked.address(&|_| None), Err(Error::Unknown { .. })));
        std::fs::write(dir.path().join(FILE), "token = \"t\"\n").unwrap();
        assert!(matches!(asked.address(&|_| None), Err(Error::NoAddress { .. })));
    }
}

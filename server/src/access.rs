//! `access.toml` in the data directory: the address and the token with which clients and workers come in.
//! Made at the first start, readable by its owner only. Reading it as a client is `taskq-client`'s part.

use std::{
    fmt, fs,
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The file's name in the data directory.
pub const FILE: &str = "access.toml";

/// A secret; never shown by `Debug`.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// 256 random bits behind a prefix that secret scanners can look for.
    #[must_use]
    pub fn random() -> Token {
        let bytes: [u8; 32] = rand::random();
        Token(format!("tq_{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
    }

    /// One that was made before, as a backup keeps it.
    #[must_use]
    pub fn kept(secret: String) -> Token {
        Token(secret)
    }

    /// Takes as long for a wrong token as for the right one.
    #[must_use]
    pub fn matches(&self, offered: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(offered).into()
    }

    /// A name for the store that goes with this token: stable, and says nothing about the secret.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        Sha256::digest(&self.0)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The secret itself, to hand to an embedded worker or client.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// How to come in.
#[derive(Clone, Debug)]
pub struct Access {
    /// Where the coordinator listens.
    pub addr: SocketAddr,
    /// What it wants to see.
    pub token: Token,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error("cannot {act} {path}")]
    Io {
        /// "read", "write"
        act: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Others could read the token.
    #[error("{path} is readable by others (mode {mode:o}); run: chmod 600 {path}")]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It tells the way to another coordinator, and must not be lost.
    #[error(
        "{path} names the coordinator at {addr}, and that is not one of this directory; give another --data for a \
         coordinator here, or move the file away"
    )]
    Elsewhere {
        /// Which file.
        path: PathBuf,
        /// The address in it.
        addr: String,
    },
    /// There is no address in it.
    #[error("{path} has no line `addr = \"HOST:PORT\"`")]
    NoAddress {
        /// Which file.
        path: PathBuf,
    },
    /// There is no token in it.
    #[error("{path} has no line `token = \"...\"`; remove the file to get a new one at the next start")]
    NoToken {
        /// Which file.
        path: PathBuf,
    },
}

/// Keeps the token that is there, or makes one, and writes down the address of this start.
///
/// # Errors
/// If the file cannot be read or written, is open to others, or holds no token.
pub fn ensure(dir: &Path, addr: SocketAddr) -> Result<Access, Error> {
    let path = dir.join(FILE);
    let token = match read_token(&path)? {
        Some(token) => token,
        None => Token::random(),
    };
    let access = Access { addr, token };
    write(&path, &access).map_err(|cause| Error::Io { act: "write", path, cause })?;
    Ok(access)
}

/// The address of the last start, or of another machine's coordinator, if the file was copied here.
///
/// # Errors
/// If the file is there and cannot be read.
pub fn addr_in(dir: &Path) -> Result<Option<String>, Error> {
    addr_of(&dir.join(FILE))
}

/// The address in this access file; `None` if there is none.
///
/// # Errors
/// If the file is there and cannot be read.
pub fn addr_of(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let addr = text.lines().find_map(|line| line.strip_prefix("addr = \"")?.strip_suffix('"'));
            Ok(addr.map(str::to_owned))
        }
        Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(cause) => Err(Error::Io { act: "read", path: path.into(), cause }),
    }
}

/// The token in the directory's file; `None` if there is no file.
///
/// # Errors
/// If the file cannot be read, is open to others, or holds no token.
pub fn token_in(dir: &Path) -> Result<Option<Token>, Error> {
    read_token(&dir.join(FILE))
}

/// The address and the token in an access file; `None` if there is no file.
///
/// # Errors
/// If the file cannot be read, is open to others, or lacks one of them.
pub fn way(path: &Path) -> Result<Option<(String, Token)>, Error> {
    match (addr_of(path)?, read_token(path)?) {
        (Some(addr), Some(token)) => Ok(Some((addr, token))),
        (None, Some(_)) => Err(Error::NoAddress { path: path.into() }),
        (_, None) => Ok(None),
    }
}

/// Puts a file with this token into a directory that has none yet. The address in it is the usual one, until a start
/// writes down its own.
///
/// # Errors
/// If it cannot be written.
pub fn found(dir: &Path, token: Token) -> Result<(), Error> {
    let path = dir.join(FILE);
    let addr = SocketAddr::from(([127, 0, 0, 1], 7733));
    write(&path, &Access { addr, token }).map_err(|cause| Error::Io { act: "write", path, cause })
}

/// Refuses a directory whose file came from elsewhere: it has no store, or an address of another machine although
/// only this one is served.
///
/// # Errors
/// [`Error::Elsewhere`], or the file cannot be read.
pub fn check_home(dir: &Path, listen: SocketAddr) -> Result<(), Error> {
    let Some(addr) = addr_in(dir)? else { return Ok(()) };
    let far = addr.parse::<SocketAddr>().is_ok_and(|addr| !addr.ip().is_loopback());
    if !dir.join("sled").exists() || (far && listen.ip().is_loopback()) {
        return Err(Error::Elsewhere { path: dir.join(FILE), addr });
    }
    Ok(())
}

fn read_token(path: &Path) -> Result<Option<Token>, Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(Error::Io { act: "read", path: path.into(), cause }),
    };
    let meta = fs::metadata(path).map_err(|cause| Error::Io { act: "read", path: path.into(), cause })?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.into(), mode });
    }
    let line = text.lines().find_map(|line| line.strip_prefix("token = \"")?.strip_suffix('"'));
    match line {
        Some(token) if !token.is_empty() => Ok(Some(Token(token.to_owned()))),
        _ => Err(Error::NoToken { path: path.into() }),
    }
}

/// Replaces the file as a whole, so that a reader never sees half of it.
fn write(path: &Path, access: &Access) -> io::Result<()> {
    let fresh = path.with_extension("toml.new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    writeln!(file, "# How clients and workers reach this coordinator. Keep it secret.")?;
    writeln!(file, "addr = \"{}\"\ntoken = \"{}\"", access.addr, access.token.0)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stays_over_restarts_and_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path(), "127.0.0.1:1".parse().unwrap()).unwrap();
        let second = ensure(dir.path(), "127.0.0.1:2".parse().unwrap()).unwrap();
        assert!(second.token.matches(first.token.reveal().as_bytes()));
        assert!(!second.token.matches(b"tq_"));
        assert!(!format!("{first:?}").contains(first.token.reveal()));
        assert!(fs::read_to_string(dir.path().join(FILE)).unwrap().contains("addr = \"127.0.0.1:2\""));
    }

    #[test]
    fn the_way_to_another_coordinator_is_not_lost() {
        let (near, far) = ("127.0.0.1:1".parse().unwrap(), "10.0.0.4:7733".parse().unwrap());
        let dir = tempfile::tempdir().unwrap();
        check_home(dir.path(), near).unwrap();
        ensure(dir.path(), near).unwrap();
        // Copied to where there is no store.
        assert!(matches!(check_home(dir.path(), near), Err(Error::Elsewhere { .. })));
        fs::create_dir(dir.path().join("sled")).unwrap();
        check_home(dir.path(), near).unwrap();
        // Copied to where there is one.
        ensure(dir.path(), far).unwrap();
        assert!(
            matches!(check_home(dir.path(), near), Err(Error::Elsewhere { addr, .. }) if addr == "10.0.0.4:7733")
        );
        check_home(dir.path(), far).unwrap();
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), "127.0.0.1:1".parse().unwrap()).unwrap();
        let path = dir.path().join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = ensure(dir.path(), "127.0.0.1:1".parse().unwrap()).unwrap_err();
        assert!(matches!(error, Error::Exposed { mode: 0o644, .. }), "{error}");
    }
}

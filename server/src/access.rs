//! `access.toml` in the data directory: the address and the token with which clients and workers come in.
//! Made at the first start, readable by its owner only; a token that was made elsewhere (`--token-file`) takes the place
//! of the one in it. Reading it as a client is `taskq-client`'s part.

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

/// How long a token of somebody's own must be, so that nobody guesses it, and may be, so that it fits into a header.
const GIVEN: std::ops::RangeInclusive<usize> = 16..=4_096;

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

    /// The one that stands alone in a file; white space around it is dropped.
    ///
    /// # Errors
    /// If the file cannot be read, is open to others, or holds something that is not a token.
    pub fn read(path: &Path) -> Result<Token, Error> {
        let said = |cause| Error::Io { act: "read", path: path.into(), cause };
        let text = fs::read(path).map_err(said)?;
        check_mode(path)?;
        let text = text.trim_ascii();
        // What may follow `Bearer` in a header, and stand between the quotes of access.toml.
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
        match str::from_utf8(text) {
            Ok(token) if GIVEN.contains(&token.len()) && text.iter().all(fits) => Ok(Token(token.to_owned())),
            Ok(_) | Err(_) => Err(Error::NotAToken { path: path.into() }),
        }
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
    /// A file for `--token-file` with something else in it.
    #[error(
        "{path} does not hold a token: 16 to 4,096 letters, digits and -._~+/= and nothing else; make one with: \
         openssl rand -hex 32"
    )]
    NotAToken {
        /// Which file.
        path: PathBuf,
    },
}

/// Writes down the address of this start, and the token: the given one, otherwise the one that is there, otherwise a new
/// one.
///
/// # Errors
/// If the file cannot be read or written, is open to others, or holds no token.
pub fn ensure(dir: &Path, addr: SocketAddr, given: Option<Token>) -> Result<Access, Error> {
    let path = dir.join(FILE);
    let kept = read_token(&path)?;
    if let (Some(kept), Some(given)) = (&kept, &given)
        && !kept.matches(given.0.as_bytes())
    {
        tracing::info!(path = %path.display(), "the token of --token-file takes the place of the former one");
    }
    let token = given.or(kept).unwrap_or_else(Token::random);
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
    check_mode(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("token = \"")?.strip_suffix('"'));
    match line {
        Some(token) if !token.is_empty() => Ok(Some(Token(token.to_owned()))),
        _ => Err(Error::NoToken { path: path.into() }),
    }
}

/// Refuses a secret that others can read.
fn check_mode(path: &Path) -> Result<(), Error> {
    let meta = fs::metadata(path).map_err(|cause| Error::Io { act: "read", path: path.into(), cause })?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(Error::Exposed { path: path.into(), mode }) }
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
        let first = ensure(dir.path(), "127.0.0.1:1".parse().unwrap(), None).unwrap();
        let second = ensure(dir.path(), "127.0.0.1:2".parse().unwrap(), None).unwrap();
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
        ensure(dir.path(), near, None).unwrap();
        // Copied to where there is no store.
        assert!(matches!(check_home(dir.path(), near), Err(Error::Elsewhere { .. })));
        fs::create_dir(dir.path().join("sled")).unwrap();
        check_home(dir.path(), near).unwrap();
        // Copied to where there is one.
        ensure(dir.path(), far, None).unwrap();
        assert!(
            matches!(check_home(dir.path(), near), Err(Error::Elsewhere { addr, .. }) if addr == "10.0.0.4:7733")
        );
        check_home(dir.path(), far).unwrap();
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), "127.0.0.1:1".parse().unwrap(), None).unwrap();
        let path = dir.path().join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = ensure(dir.path(), "127.0.0.1:1".parse().unwrap(), None).unwrap_err();
        assert!(matches!(error, Error::Exposed { mode: 0o644, .. }), "{error}");
    }

    fn secret(dir: &Path, text: &[u8], mode: u32) -> PathBuf {
        let path = dir.join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_given_token_takes_the_place_of_the_former_one_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let addr = "127.0.0.1:1".parse().unwrap();
        let own = ensure(dir.path(), addr, None).unwrap().token;
        let given = Token::read(&secret(dir.path(), b" a-token/of+its.own_1~=\n", 0o400)).unwrap();
        let first = ensure(dir.path(), addr, Some(given)).unwrap().token;
        assert!(first.matches(b"a-token/of+its.own_1~=") && !first.matches(own.reveal().as_bytes()));
        let later = ensure(dir.path(), addr, None).unwrap().token;
        assert!(later.matches(first.reveal().as_bytes()));
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        for wrong in [
            &b""[..],
            b"  \n",
            b"fifteen-letters",
            b"two words, long enough",
            b"\"quoted-and-long\"",
            b"\xff\xfe0123456789abcdef",
        ] {
            let path = secret(dir.path(), wrong, 0o600);
            let error = Token::read(&path).unwrap_err();
            assert!(matches!(error, Error::NotAToken { .. }), "{error}");
            assert!(!error.to_string().contains("fifteen"), "{error}");
        }
        let path = secret(dir.path(), b"0123456789abcdef", 0o640);
        assert!(matches!(Token::read(&path), Err(Error::Exposed { mode: 0o640, .. })));
        let nowhere = dir.path().join("nowhere");
        assert!(matches!(Token::read(&nowhere), Err(Error::Io { act: "read", .. })));
    }
}

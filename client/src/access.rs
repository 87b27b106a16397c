//! Where the coordinator is and what opens it: an address and a token, found in flags, in the environment or in
//! the `access.toml` that a coordinator writes into its data directory.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where a coordinator listens unless told otherwise.
pub const DEFAULT_ADDR: &str = "127.0.0.1:7733";
/// Name of the access file in a data directory.
pub const FILE_NAME: &str = "access.toml";

/// A coordinator's secret. Never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token as it stands in a file or variable; white space around it is dropped.
    ///
    /// # Errors
    /// It is empty, longer than 4 KiB or not printable ASCII, so that it cannot be a header.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into().trim().to_owned();
        if text.is_empty() || text.len() > 4096 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let shape = "a token is 1 to 4,096 printable characters without spaces";
            return Err(Error::Usage(format!(
                "this is not a token: {shape}; copy it from the coordinator's {FILE_NAME}"
            )));
        }
        Ok(Self(text))
    }

    /// The secret itself.
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

/// Who said something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A flag of a command.
    Flag(&'static str),
    /// An environment variable.
    Env(&'static str),
    /// A file.
    File(PathBuf),
    /// Nobody: the default.
    BuiltIn,
    /// The program that uses this crate.
    Given,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Flag(name) | Place::Env(name) => f.write_str(name),
            Place::File(path) => write!(f, "{}", path.display()),
            Place::BuiltIn => f.write_str("built-in default (set TASKQ_ADDR, --addr or --access)"),
            Place::Given => f.write_str("the program"),
        }
    }
}

/// Where the parts of an [`Access`] came from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Of the address.
    pub addr: Place,
    /// Of the token.
    pub token: Place,
}

/// An address and the token that opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// `host:port`, `[v6]:port` or `http://host:port`.
    pub addr: String,
    /// The coordinator's secret.
    pub token: Token,
    /// Who said so.
    pub origin: Origin,
}

/// What was named on a command line.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--addr`
    pub addr: Option<String>,
    /// `--token-file`
    pub token_file: Option<PathBuf>,
    /// `--access`
    pub access_file: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    addr: String,
    token: String,
}

impl Access {
    /// An access that the program knows by itself.
    #[must_use]
    pub fn new(addr: impl Into<String>, token: Token) -> Self {
        Self { addr: addr.into(), token, origin: Origin { addr: Place::Given, token: Place::Given } }
    }

    /// Looks where users put it. Flags come before the environment, that before the default data directory:
    /// `--addr` (token from `--token-file`, `TASKQ_TOKEN`, `TASKQ_TOKEN_FILE`), `--access`, `TASKQ_ADDR`,
    /// `TASKQ_ACCESS`, `$XDG_DATA_HOME/taskq/access.toml`.
    ///
    /// An address without a token takes the token of a named access file; that of the default one only if it is
    /// for the same address, for a token must not be shown to strangers.
    ///
    /// # Errors
    /// Nothing was found ([`Error::NoCoordinator`]), or what was found cannot be used.
    pub fn find(sources: &Sources) -> Result<Self> {
        Self::find_in(sources, &|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn find_in(sources: &Sources, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let file = match &sources.access_file {
            Some(path) => Some(path.clone()),
            None => env("TASKQ_ACCESS").map(PathBuf::from),
        };
        let addr = match (&sources.addr, &sources.access_file) {
            (Some(addr), _) => Some((addr.clone(), Place::Flag("--addr"))),
            (None, Some(_)) => None,
            (None, None) => text_variable("TASKQ_ADDR", env)?.map(|addr| (addr, Place::Env("TASKQ_ADDR"))),
        };
        // A named access file is address and token together: the token variables do not reach into it.
        let token = if addr.is_none() && file.is_some() { None } else { token(sources, env)? };
        match (addr, token) {
            (Some((addr, from)), Some((token, token_from))) => {
                Ok(Self { addr, token, origin: Origin { addr: from, token: token_from } })
            }
            (Some((addr, from)), None) => Self::with_token_of_file(addr, from, file, env),
            (None, _) if file.is_some() => {
                let mut found = Self::read(&file.unwrap_or_default())?;
                if let Some(path) = &sources.token_file {
                    found.token = read_token(path)?;
                    found.origin.token = Place::File(path.clone());
                }
                Ok(found)
            }
            (None, Some((token, from))) => Ok(Self {
                addr: DEFAULT_ADDR.into(),
                token,
                origin: Origin { addr: Place::BuiltIn, token: from },
            }),
            (None, None) => {
                let path = default_data_dir_in(env)?.join(FILE_NAME);
                if !path.exists() {
                    return Err(Error::NoCoordinator { path });
                }
                Self::read(&path)
            }
        }
    }

    fn with_token_of_file(
        addr: String,
        from: Place,
        named: Option<PathBuf>,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self> {
        let is_named = named.is_some();
        let path = match named {
            Some(path) => path,
            None => default_data_dir_in(env)?.join(FILE_NAME),
        };
        if is_named || path.exists() {
            let found = Self::read(&path)?;
            if is_named || crate::address::is_same(&found.addr, &addr) {
                return Ok(Self {
                    addr,
                    token: found.token,
                    origin: Origin { addr: from, token: Place::File(path) },
                });
            }
        }
        Err(Error::NoToken { addr, origin: from })
    }

    /// Reads an access file.
    ///
    /// # Errors
    /// It cannot be read, others than its owner can read it, or it does not hold an address and a token.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&read_private(path)?, path)
    }

    /// Takes the text of an access file; `path` is for messages.
    ///
    /// # Errors
    /// It does not hold an address and a token.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let bad = |problem: String| Error::AccessFile { path: path.into(), problem, denied: false };
        let File { addr, token } = basic_toml::from_str(text).map_err(|error| {
            bad(format!("{error}; it needs two lines: addr = \"HOST:PORT\" and token = \"...\""))
        })?;
        let token = Token::new(token).map_err(|error| bad(error.to_string()))?;
        let from = || Place::File(path.into());
        Ok(Self { addr, token, origin: Origin { addr: from(), token: from() } })
    }

    /// Writes an access file that only its owner can read, whole or not at all.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        let file = File { addr: self.addr.clone(), token: self.token.reveal().into() };
        let failed = |cause: &dyn fmt::Display| Error::AccessFile {
            path: path.into(),
            problem: format!("cannot be written: {cause}"),
            denied: false,
        };
        let text = basic_toml::to_string(&file).map_err(|error| failed(&error))?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let fresh = path.with_file_name(name);
        let put = || -> std::io::Result<()> {
            let mut options = std::fs::OpenOptions::new();
            let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            out.set_permissions(std::fs::Permissions::from_mode(0o600))?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            std::fs::rename(&fresh, path)
        };
        put().map_err(|error| failed(&error))
    }
}

/// Where a coordinator of this user keeps its data: `$XDG_DATA_HOME/taskq`, else `~/.local/share/taskq`.
///
/// # Errors
/// Neither `XDG_DATA_HOME` nor `HOME` says where.
pub fn default_data_dir() -> Result<PathBuf> {
    default_data_dir_in(&|name| std::env::var_os(name).filter(|value| !value.is_empty()))
}

fn default_data_dir_in(env: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    // The XDG rules: a relative path there counts as none.
    let data = env("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    match (data, env("HOME")) {
        (Some(data), _) => Ok(data.join("taskq")),
        (None, Some(home)) => Ok(PathBuf::from(home).join(".local/share/taskq")),
        (None, None) => Err(Error::Usage(
            "neither XDG_DATA_HOME nor HOME is set; name the data directory or --access".into(),
        )),
    }
}

fn token(sources: &Sources, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<(Token, Place)>> {
    if let Some(path) = &sources.token_file {
        return Ok(Some((read_token(path)?, Place::File(path.clone()))));
    }
    if let Some(text) = text_variable("TASKQ_TOKEN", env)? {
        return Ok(Some((Token::new(text)?, Place::Env("TASKQ_TOKEN"))));
    }
    match env("TASKQ_TOKEN_FILE").map(PathBuf::from) {
        Some(path) => Ok(Some((read_token(&path)?, Place::File(path)))),
        None => Ok(None),
    }
}

fn text_variable(name: &'static str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<String>> {
    let text = env(name).map(OsString::into_string).transpose();
    text.map_err(|_| Error::Usage(format!("{name} is not UTF-8 text")))
}

fn read_token(path: &Path) -> Result<Token> {
    let text = read_private(path)?;
    Token::new(text).map_err(|error| Error::AccessFile {
        path: path.into(),
        problem: error.to_string(),
        denied: false,
    })
}

fn read_private(path: &Path) -> Result<String> {
    let refuse = |problem: String, denied| Err(Error::AccessFile { path: path.into(), problem, denied });
    let read = || -> std::io::Result<(u32, String)> {
        let file = std::fs::File::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        Ok((mode, std::io::read_to_string(file)?))
    };
    match read() {
        Ok((mode, _)) if mode & 0o077 != 0 => {
            let fix = format!("chmod 600 {}", path.display());
            refuse(
                format!("holds a token, but others can read it (mode {:03o}); run: {fix}", mode & 0o777),
                true,
            )
        }
        Ok((_, text)) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            refuse("may not be read by this user; ask its owner for an access file of your own".into(), true)
        }
        Err(error) => refuse(format!("cannot be read: {error}"), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    struct World {
        dir: tempfile::TempDir,
        env: Vec<(&'static str, OsString)>,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let env = vec![("XDG_DATA_HOME", dir.path().as_os_str().to_owned())];
            std::fs::create_dir(dir.path().join("taskq")).unwrap();
            Self { dir, env }
        }
        fn set(&mut self, name: &'static str, value: impl Into<OsString>) {
            self.env.push((name, value.into()));
        }
        fn file(&self, name: &str, addr: &str, token: &str) -> PathBuf {
            let path = self.dir.path().join(name);
            Access::new(addr, Token::new(token).unwrap()).write(&path).unwrap();
            path
        }
        fn find(&self, sources: &Sources) -> Result<Access> {
            Access::find_in(sources, &|name| {
                self.env.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| v.clone())
            })
        }
    }

    fn addr(text: &str) -> Sources {
        Sources { addr: Some(text.into()), ..Sources::default() }
    }

    #[test]
    fn the_nearest_source_wins() {
        let mut world = World::new();
        let missing = world.find(&Sources::default()).unwrap_err();
        assert_eq!(missing.kind(), Kind::Unreachable);
        assert!(missing.to_string().contains("taskq up"), "{missing}");

        let default = world.file("taskq/access.toml", "127.0.0.1:1", "default");
        let found = world.find(&Sources::default()).unwrap();
        assert_eq!((found.addr.as_str(), found.token.reveal()), ("127.0.0.1:1", "default"));
        assert_eq!(found.origin.addr, Place::File(default));

        let other = world.file("other.toml", "h:2", "other");
        world.set("TASKQ_ACCESS", other);
        assert_eq!(world.find(&Sources::default()).unwrap().token.reveal(), "other");

        world.set("TASKQ_ADDR", "h:3");
        assert_eq!(
            world.find(&Sources::default()).unwrap().token.reveal(),
            "other",
            "token of the named file"
        );
        world.set("TASKQ_TOKEN", "variable");
        let found = world.find(&Sources::default()).unwrap();
        assert_eq!((found.addr.as_str(), found.token.reveal()), ("h:3", "variable"));
        assert_eq!(found.origin.token, Place::Env("TASKQ_TOKEN"));

        let flag = world.file("flag.toml", "h:4", "flag");
        let sources = Sources { access_file: Some(flag), ..Sources::default() };
        assert_eq!(world.find(&sources).unwrap().token.reveal(), "flag", "a flag beats every variable");
        let token_file = world.dir.path().join("token");
        std::fs::write(&token_file, "from-file\n").unwrap();
        std::fs::set_permissions(&token_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let found = world.find(&Sources { token_file: Some(token_file), ..sources }).unwrap();
        assert_eq!((found.addr.as_str(), found.token.reveal()), ("h:4", "from-file"));
        assert_eq!(world.find(&addr("h:5")).unwrap().addr, "h:5");
    }

    #[test]
    fn a_default_token_is_shown_to_its_own_coordinator_only() {
        let world = World::new();
        world.file("taskq/access.toml", "127.0.0.1:7733", "secret");
        assert_eq!(world.find(&addr("http://127.0.0.1:7733")).unwrap().token.reveal(), "secret");
        let error = world.find(&addr("elsewhere:7733")).unwrap_err();
        assert_eq!(error.kind(), Kind::Unauthorized);
        assert!(!format!("{error} {error:?}").contains("secret"));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let world = World::new();
        let path = world.file("open.toml", "h:1", "secret");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Access::read(&path).unwrap_err();
        assert_eq!(error.kind(), Kind::Unauthorized);
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn bad_files_are_named_without_their_secret() {
        let path = Path::new("/x/access.toml");
        for text in [
            "",
            "addr = 1",
            "addr = \"h\"",
            "addr = \"h\"\ntoken = \"a b\"",
            "token = \"tq_secret\"\nx",
            "\0",
        ] {
            let error = Access::parse(text, path).unwrap_err();
            assert!(error.to_string().starts_with("/x/access.toml: "), "{error}");
            assert!(!error.to_string().contains("tq_secret"), "{error}");
            assert_eq!(error.kind(), Kind::Usage);
        }
        assert_eq!(format!("{:?}", Token::new("tq_secret").unwrap()), "Token(..)");
    }
}

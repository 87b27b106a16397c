//! How arguments and results of calls are written as bytes. Caller and function agree on it by the name in the call; the
//! coordinator never looks inside.
//!
//! | codec | name | for |
//! |---|---|---|
//! | [`Codec::Json`] | `json` | the default: every language has it, people can read it |
//! | [`Codec::Msgpack`] | `msgpack` | smaller and faster; structures are written as arrays of their fields |
//! | [`Codec::Raw`] | `raw` | bytes or text as they are, without any framing |

mod raw;

pub use raw::Raw;

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A way of writing values as bytes. Default: JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 8259.
    #[default]
    Json,
    /// <https://msgpack.org>
    Msgpack,
    /// The bytes themselves: of `String`, `&str`, [`Raw`], `()` (nothing), or an `Option` of those.
    Raw,
}

/// Bytes do not hold the value that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} as {codec}{}: {}", at(.place), found(.problem, .expected))]
pub struct Mismatch {
    /// The Rust type.
    pub expected: &'static str,
    /// How it was to be written.
    pub codec: Codec,
    /// Where in the value, as `items[3].size`; empty if at its top.
    pub place: String,
    /// What is there instead, with line and column where the codec knows them.
    pub problem: String,
}

/// A value cannot be written in this way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot write {given} as {codec}: {problem}")]
pub struct Unwritable {
    /// The Rust type.
    pub given: &'static str,
    /// How it was to be written.
    pub codec: Codec,
    /// Why not.
    pub problem: String,
}

fn at(place: &str) -> String {
    if place.is_empty() { String::new() } else { format!(" at {place}") }
}

/// The problem without the words in which it repeats the type.
fn found(problem: &str, expected: &str) -> String {
    problem.replacen(&format!(", expected {expected}"), "", 1)
}

impl Codec {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Codec::Json => "json",
            Codec::Msgpack => "msgpack",
            Codec::Raw => "raw",
        }
    }

    /// A value as bytes.
    ///
    /// # Errors
    /// The codec has no form for it: a map whose keys are no texts (JSON), anything but bytes and text (raw).
    pub fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes, Unwritable> {
        let written = match self {
            Codec::Json => serde_json::to_vec(value).map_err(|e| e.to_string()),
            Codec::Msgpack => rmp_serde::to_vec(value).map_err(|e| e.to_string()),
            Codec::Raw => raw::encode(value).map_err(|e| e.to_string()),
        };
        let given = std::any::type_name::<T>();
        written.map(Bytes::from).map_err(|problem| Unwritable { given, codec: self, problem })
    }

    /// The value that bytes hold.
    ///
    /// # Errors
    /// They hold something else, or more than one value.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, Mismatch> {
        let read = match self {
            Codec::Json => json(bytes),
            Codec::Msgpack => msgpack(bytes),
            Codec::Raw => raw::decode(bytes).map_err(|e| (String::new(), e.to_string())),
        };
        let expected = std::any::type_name::<T>();
        read.map_err(|(place, problem)| Mismatch { expected, codec: self, place, problem })
    }
}

/// Place and problem of what cannot be read.
type Problem = (String, String);

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(told)?;
    reader.end().map_err(|e| (String::new(), e.to_string()))?;
    Ok(value)
}

fn msgpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = rmp_serde::Deserializer::new(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(told)?;
    match reader.get_ref().len() {
        0 => Ok(value),
        more => Err((String::new(), format!("{more} bytes follow the value"))),
    }
}

fn told<E: fmt::Display>(error: serde_path_to_error::Error<E>) -> Problem {
    let place = error.path().to_string();
    let place = if place == "." { String::new() } else { place };
    (place, error.into_inner().to_string())
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of a codec that this library has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no codec that is known here; use json, msgpack or raw")]
pub struct UnknownCodec(pub String);

impl FromStr for Codec {
    type Err = UnknownCodec;

    /// An empty name is the default.
    fn from_str(name: &str) -> Result<Codec, UnknownCodec> {
        match name {
            "" | "json" => Ok(Codec::Json),
            "msgpack" => Ok(Codec::Msgpack),
            "raw" => Ok(Codec::Raw),
            _ => Err(UnknownCodec(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Raw;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Photo {
        name: String,
        sizes: Vec<(u32, f64)>,
        note: Option<Kind>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Plain,
        Tagged { tag: u8 },
    }

    fn photo() -> Photo {
        Photo { name: "ä.jpg".into(), sizes: vec![(1, 0.5), (7, 2.0)], note: Some(Kind::Tagged { tag: 9 }) }
    }

    #[test]
    fn values_come_back() {
        for codec in [Codec::Json, Codec::Msgpack] {
            let bytes = codec.encode(&photo()).expect("encodes");
            assert_eq!(codec.decode::<Photo>(&bytes), Ok(photo()), "{codec}");
            assert_eq!(codec.decode::<()>(&codec.encode(&()).expect("encodes")), Ok(()));
            assert_eq!(codec.decode::<Kind>(&codec.encode(&Kind::Plain).expect("encodes")), Ok(Kind::Plain));
        }
    }

    #[test]
    fn raw_is_the_bytes_themselves() {
        assert_eq!(Codec::Raw.encode("text").expect("encodes"), "text");
        assert_eq!(Codec::Raw.decode::<String>(b"text"), Ok("text".to_owned()));
        let bytes = Raw(Bytes::from_static(b"\0\xff"));
        assert_eq!(Codec::Raw.encode(&bytes).expect("encodes"), bytes.0);
        assert_eq!(Codec::Raw.decode::<Raw>(b"\0\xff"), Ok(bytes.clone()));
        assert_eq!(Codec::Raw.encode(&()).expect("encodes"), "");
        assert_eq!(Codec::Raw.decode::<()>(b""), Ok(()));
        assert_eq!(
            Codec::Msgpack.decode::<Raw>(&Codec::Msgpack.encode(&bytes).expect("encodes")),
            Ok(bytes.clone())
        );
        assert_eq!(Codec::Json.decode::<Raw>(&Codec::Json.encode(&bytes).expect("encodes")), Ok(bytes));
    }

    #[test]
    fn a_mismatch_says_what_was_expected_and_where() {
        let said = |wrong: &str| Codec::Json.decode::<Photo>(wrong.as_bytes()).expect_err(wrong).to_string();
        let wrong = said(r#"{"name": "a", "sizes": [[1, 0.5], [-2, 1]]}"#);
        assert!(wrong.contains("Photo as json at sizes[1][0]: "), "{wrong}");
        assert!(wrong.contains("invalid value: integer `-2`, expected u32 at line 1 column"), "{wrong}");
        assert!(said("{} {}").contains("missing field `name`"));
        let more = Codec::Json.decode::<u8>(b"1 2").expect_err("two values");
        assert!(more.to_string().contains("expected u8 as json: trailing characters"), "{more}");
        assert!(
            Codec::Msgpack.decode::<u8>(&[1, 2]).expect_err("two values").problem.contains("1 bytes follow")
        );
        let number = Codec::Raw.decode::<u64>(b"7").expect_err("no number").to_string();
        assert!(number.ends_with("expected u64 as raw: invalid type: byte array"), "{number}");
        assert!(Codec::Raw.decode::<String>(b"\xff").is_err());
    }

    #[test]
    fn what_has_no_form_is_told() {
        let keys = BTreeMap::from([((1, 2), 3)]);
        let wrong = Codec::Json.encode(&keys).expect_err("keys are no texts").to_string();
        assert!(wrong.contains("as json: key must be a string"), "{wrong}");
        let wrong = Codec::Raw.encode(&7_u64).expect_err("a number").to_string();
        assert!(wrong.contains("cannot write u64 as raw: "), "{wrong}");
    }
}

//! What a worker and its children say to each other: `docs/CHILD_PROTOCOL.md`, in types. A frame is two lengths, a header
//! in JSON, and a body of raw bytes. Headers that are not known, and fields that are not, are passed over.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::attempt::{Cause, Fault, Usage};
use crate::context::Why;

/// The version that this file speaks.
pub(crate) const PROTOCOL: u32 = 1;
/// The longest header: a failure with all its words.
pub(crate) const HEADER_BYTES: usize = 1 << 20;
/// The longest body: an argument, or a value.
pub(crate) const BODY_BYTES: usize = taskq_proto::VALUE_BYTES;
/// The two lengths.
const PREFIX: usize = 8;

/// Worker to child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub(crate) enum Down {
    /// Comes first.
    Welcome {
        protocol: u32,
        limits: Limits,
    },
    /// The body is the argument.
    Call {
        id: u64,
        function: String,
        codec: String,
        job: u64,
        task: u32,
        attempt: u32,
        /// From now; absent: no timeout.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline_ms: Option<u64>,
        worker: String,
        slot: u32,
    },
    Cancel {
        id: u64,
        why: Reason,
        grace_ms: u64,
    },
    Bye,
    #[serde(other)]
    Unknown,
}

/// What a child has to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub header_bytes: u64,
    pub body_bytes: u64,
    /// Absent: none. To be set by the child on itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// Child to worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub(crate) enum Up {
    Hello {
        protocol: u32,
        functions: Vec<String>,
        #[serde(default)]
        language: String,
    },
    Progress {
        id: u64,
        fraction: f64,
        #[serde(default)]
        note: String,
    },
    /// The body is the value.
    Completed {
        id: u64,
        #[serde(flatten)]
        used: Used,
    },
    /// The body is the error itself in the call's codec, or empty.
    Failed {
        id: u64,
        cause: Blame,
        #[serde(rename = "type", default)]
        kind: String,
        message: String,
        #[serde(default)]
        chain: Vec<String>,
        #[serde(default)]
        place: String,
        #[serde(default)]
        fatal: bool,
        #[serde(flatten)]
        used: Used,
    },
    #[serde(other)]
    Unknown,
}

/// What a call used, as far as its child knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Used {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<u64>,
}

/// [`Why`], for the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    Cancelled,
    TimedOut,
    Stopping,
    #[serde(other)]
    Other,
}

/// [`Cause`], for the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Blame {
    Panic,
    Argument,
    Result,
    Function,
    #[serde(other)]
    Error,
}

impl From<Why> for Reason {
    fn from(why: Why) -> Reason {
        match why {
            Why::Cancelled | Why::LeaseLost => Reason::Cancelled,
            Why::TimedOut => Reason::TimedOut,
            Why::Stopping => Reason::Stopping,
        }
    }
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Why {
        match reason {
            Reason::Cancelled | Reason::Other => Why::Cancelled,
            Reason::TimedOut => Why::TimedOut,
            Reason::Stopping => Why::Stopping,
        }
    }
}

impl Up {
    /// A fault without the error itself, which is the body.
    pub(crate) fn failed(id: u64, fault: Fault, used: Used) -> (Up, Bytes) {
        let Fault { cause, kind, message, chain, place, fatal, value } = fault;
        let cause = match cause {
            Cause::Error => Blame::Error,
            Cause::Panic => Blame::Panic,
            Cause::Argument => Blame::Argument,
            Cause::Result => Blame::Result,
            Cause::Function => Blame::Function,
        };
        (Up::Failed { id, cause, kind, message, chain, place, fatal, used }, value)
    }
}

impl From<Used> for Usage {
    fn from(used: Used) -> Usage {
        let Used { user_us, system_us, peak_rss_bytes } = used;
        Usage {
            wall_us: 0,
            user_us: user_us.unwrap_or(0),
            system_us: system_us.unwrap_or(0),
            peak_rss_bytes: peak_rss_bytes.unwrap_or(0),
        }
    }
}

impl From<Blame> for Cause {
    fn from(blame: Blame) -> Cause {
        match blame {
            Blame::Error => Cause::Error,
            Blame::Panic => Cause::Panic,
            Blame::Argument => Cause::Argument,
            Blame::Result => Cause::Result,
            Blame::Function => Cause::Function,
        }
    }
}

/// A frame without its body, which follows.
pub(crate) fn head(header: &impl Serialize, body: &[u8]) -> Bytes {
    let header = serde_json::to_vec(header).expect("headers have a form in JSON");
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("below 4 GiB by its limit").to_le_bytes();
    [&length(&header)[..], &length(body), &header].concat().into()
}

/// Frames that came in, piece by piece.
#[derive(Default)]
pub(crate) struct Incoming {
    bytes: BytesMut,
}

impl Incoming {
    /// Where to put what was read.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        self.bytes.reserve(64 * 1024);
        &mut self.bytes
    }

    /// The next whole frame. An error means that the other side speaks something else.
    pub(crate) fn next<H: DeserializeOwned>(&mut self) -> io::Result<Option<(H, Bytes)>> {
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut prefix = &self.bytes[..];
        if prefix.len() < PREFIX {
            return Ok(None);
        }
        let (header, body) = (prefix.get_u32_le() as usize, prefix.get_u32_le() as usize);
        if header > HEADER_BYTES || body > BODY_BYTES {
            return Err(wrong(format!("a frame of {header} + {body} bytes is longer than allowed")));
        }
        if prefix.len() < header + body {
            self.bytes.reserve(PREFIX + header + body - self.bytes.len());
            return Ok(None);
        }
        self.bytes.advance(PREFIX);
        let text = self.bytes.split_to(header);
        let body = self.bytes.split_to(body).freeze();
        let header = serde_json::from_slice(&text)
            .map_err(|error| wrong(format!("header {:?}: {error}", String::from_utf8_lossy(&text))))?;
        Ok(Some((header, body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(header: &impl Serialize, body: &[u8]) -> Vec<u8> {
        [&head(header, body), body].concat()
    }

    #[test]
    fn frames_come_back_whatever_the_pieces() {
        let frames = [
            (Up::Hello { protocol: 1, functions: vec!["f".into()], language: "rust".into() }, &b""[..]),
            (Up::Completed { id: 7, used: Used { user_us: Some(9), ..Used::default() } }, b"\0\xff"),
            (Up::Progress { id: 7, fraction: 0.5, note: "ä".into() }, b""),
        ];
        let all: Vec<u8> = frames.iter().flat_map(|(header, body)| framed(header, body)).collect();
        for size in 1..all.len() {
            let mut incoming = Incoming::default();
            let mut found = Vec::new();
            for piece in all.chunks(size) {
                incoming.buffer().extend_from_slice(piece);
                while let Some((header, body)) = incoming.next::<Up>().expect("frames") {
                    found.push((header, body));
                }
            }
            assert_eq!(found, frames.clone().map(|(header, body)| (header, Bytes::from_static(body))));
        }
    }

    #[test]
    fn the_words_are_those_of_the_document() {
        let text = |header: &[u8]| String::from_utf8(header[PREFIX..].to_vec()).expect("text");
        let cancel = Down::Cancel { id: 3, why: Why::TimedOut.into(), grace_ms: 1000 };
        assert_eq!(
            text(&head(&cancel, b"")),
            r#"{"frame":"cancel","id":3,"why":"timed_out","grace_ms":1000}"#
        );
        let used = Used { user_us: Some(1), system_us: Some(2), peak_rss_bytes: Some(3) };
        assert_eq!(
            text(&head(&Up::Completed { id: 3, used }, b"")),
            r#"{"frame":"completed","id":3,"user_us":1,"system_us":2,"peak_rss_bytes":3}"#
        );
        let (failed, _) = Up::failed(3, *Fault::new(Cause::Panic, "no").of("E"), Used::default());
        assert_eq!(
            text(&head(&failed, b"")),
            r#"{"frame":"failed","id":3,"cause":"panic","type":"E","message":"no","chain":[],"place":"","fatal":false}"#
        );
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        let mut incoming = Incoming::default();
        let newer = serde_json::json!({"frame": "sing", "song": 1});
        let more = serde_json::json!({"frame": "failed", "id": 1, "cause": "moon", "message": "m", "new": 2});
        incoming.buffer().extend_from_slice(&framed(&newer, b"la"));
        incoming.buffer().extend_from_slice(&framed(&more, b""));
        assert_eq!(incoming.next::<Up>().expect("a frame"), Some((Up::Unknown, Bytes::from_static(b"la"))));
        let Ok(Some((Up::Failed { cause, .. }, _))) = incoming.next::<Up>() else { panic!("a failure") };
        assert_eq!(cause, Blame::Error);
    }

    #[test]
    fn garbage_is_told() {
        let mut incoming = Incoming::default();
        incoming.buffer().extend_from_slice(b"Traceback (most recent call last)");
        assert!(incoming.next::<Up>().expect_err("no frame").to_string().contains("longer than allowed"));
        let mut incoming = Incoming::default();
        incoming.buffer().extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', b'c']);
        assert!(incoming.next::<Up>().expect_err("no JSON").to_string().contains("header \"abc\""));
    }
}

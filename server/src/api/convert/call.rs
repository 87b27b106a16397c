//! A call as a client submits it: checked against every limit that `jobs.proto` names.

use bytes::Bytes;
use taskq_proto::VALUE_BYTES;
use taskq_proto::v1::{self as pb, source::Values};

use crate::api::status::Invalid;

/// An argument that travels inside its job.
const INLINE_BYTES: usize = 64 << 10;
const NAME_BYTES: usize = 128;
const CODEC_BYTES: usize = 32;
/// The codec of a call that names none.
const CODEC: &str = "json";
/// Codecs in which decimal digits are a number: the elements of a range.
const NUMERIC: [&str; 2] = ["json", "raw"];

/// Checks a call, and names its codec if it did not.
///
/// # Errors
/// Names the field that is wrong.
pub fn check(
    call: &mut pb::Call,
    elements: Option<&pb::Elements>,
    blob: &dyn Fn(&pb::Blob) -> Option<Bytes>,
) -> Result<(), Invalid> {
    function(&call.function).map_err(|why| Invalid::new("function", why))?;
    if call.codec.is_empty() {
        CODEC.clone_into(&mut call.codec);
    }
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if call.codec.len() > CODEC_BYTES || !call.codec.bytes().all(inner) {
        return Err(Invalid::new("codec", format!("must be 1 to {CODEC_BYTES} of a-z 0-9 -")));
    }
    if call.argument.len() > INLINE_BYTES {
        let why = format!(
            "{} bytes; at most {INLINE_BYTES}: upload it and give argument_blob",
            call.argument.len()
        );
        return Err(Invalid::new("argument", why));
    }
    if let Some(named) = &call.argument_blob {
        if !call.argument.is_empty() {
            return Err(Invalid::new("argument_blob", "argument is given as well"));
        }
        let bytes =
            blob(named).ok_or_else(|| Invalid::new("argument_blob", "is not here; upload it first"))?;
        if bytes.len() > VALUE_BYTES {
            let why = format!("{} bytes; an argument has at most {VALUE_BYTES}", bytes.len());
            return Err(Invalid::new("argument_blob", why));
        }
    }
    match elements.map(|elements| elements.sources.as_slice()) {
        None | Some([]) => Ok(()),
        Some([source]) => {
            if !call.argument.is_empty() || call.argument_blob.is_some() {
                return Err(Invalid::new("argument", "elements are given as well: each is an argument"));
            }
            if source.columns.len() > 1 {
                return Err(Invalid::new("elements", "an argument is one column"));
            }
            if matches!(source.values, Some(Values::Range(_))) && !NUMERIC.contains(&call.codec.as_str()) {
                let why = format!("a range is made of decimal numbers, which {} does not read", call.codec);
                return Err(Invalid::new("elements", why));
            }
            Ok(())
        }
        Some(_) => Err(Invalid::new("elements", "a call takes one source: an element is an argument")),
    }
}

/// The rule for names of functions.
///
/// # Errors
/// Says the rule.
pub fn function(name: &str) -> Result<(), &'static str> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    let good = name.len() <= NAME_BYTES
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && name.bytes().all(inner);
    good.then_some(()).ok_or("must be 1 to 128 of A-Z a-z 0-9 _ . : - and begin with a letter or _")
}

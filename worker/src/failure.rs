//! What a function returns when it has no value.

use std::error::Error;
use std::fmt;
use std::panic::Location;

use bytes::Bytes;
use serde::Serialize;
use taskq_client::Codec;

use crate::attempt::{Cause, Fault};

/// Causes that are told, at most.
const CHAIN: usize = 32;

/// Why a call has no value. Any error becomes one by `?`, which also notes the place:
///
/// ```
/// use taskq_worker::{Context, Failure};
///
/// fn double(number: String, _: &Context) -> Result<u64, Failure> {
///     let number: u64 = number.parse()?;
///     number.checked_mul(2).ok_or_else(|| Failure::new("too large to be doubled").fatal())
/// }
/// ```
///
/// It is tried again, as often as the job's retries allow, unless it is [`fatal`](Failure::fatal). It is not an
/// [`Error`] itself, so that every error can become one.
pub struct Failure {
    fault: Box<Fault>,
    encode: Option<Box<Encode>>,
}

/// How the error itself is written; the codec is known only when the call ends.
type Encode = dyn Fn(Codec) -> Option<Bytes> + Send + Sync;

impl Failure {
    /// A failure in plain words.
    #[track_caller]
    #[must_use]
    pub fn new(message: impl Into<String>) -> Failure {
        let mut fault = Fault::new(Cause::Error, message);
        fault.place = Location::caller().to_string();
        Failure { fault, encode: None }
    }

    /// An error that travels whole: a caller that knows the type can have it back (`CallError::typed`). It is written in the
    /// codec of the call. If that has no form for it, or the form is longer than 32 KiB, only type name, words, chain and
    /// place travel, and the caller finds no typed error; the failure itself is the same.
    #[track_caller]
    #[must_use]
    pub fn typed<E: Error + Serialize + Send + Sync + 'static>(error: E) -> Failure {
        let failure = Failure::from_error(&error);
        Failure { encode: Some(Box::new(move |codec| codec.encode(&error).ok())), ..failure }
    }

    /// An error whose type is hidden in a box, such as that of the `anyhow` crate.
    #[track_caller]
    #[must_use]
    pub fn boxed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        let error = error.into();
        let mut failure = Failure::new(error.to_string());
        failure.fault.chain = chain(error.as_ref());
        failure
    }

    /// The same, never to be tried again: it would only fail again.
    #[must_use]
    pub fn fatal(mut self) -> Failure {
        self.fault.fatal = true;
        self
    }

    /// The same, to be tried again as often as the job allows: what failures are from the beginning.
    #[must_use]
    pub fn retryable(mut self) -> Failure {
        self.fault.fatal = false;
        self
    }

    /// Whether it is never tried again.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.fault.fatal
    }

    #[track_caller]
    fn from_error<E: Error>(error: &E) -> Failure {
        let mut failure = Failure::new(error.to_string());
        failure.fault.kind = std::any::type_name::<E>().to_owned();
        failure.fault.chain = chain(error);
        failure
    }

    /// As it is told; the error itself is written in the codec of the call.
    pub(crate) fn into_fault(self, codec: Codec) -> Box<Fault> {
        let Failure { mut fault, encode } = self;
        let value = encode.and_then(|encode| encode(codec)).unwrap_or_default();
        // What would not fit beside a value is told in words only.
        if value.len() <= taskq_proto::INLINE_VALUE_BYTES {
            fault.value = value;
        }
        fault
    }
}

fn chain(error: &dyn Error) -> Vec<String> {
    let mut chain = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause
        && chain.len() < CHAIN
    {
        chain.push(error.to_string());
        cause = error.source();
    }
    chain
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Failure {
        Failure::from_error(&error)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { fault, encode } = self;
        f.debug_struct("Failure").field("fault", fault).field("typed", &encode.is_some()).finish()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault.message)
    }
}

/// Turns errors that would only come again into fatal failures, in passing: `parse(&text).or_fatal()?`.
pub trait OrFatal<T> {
    /// The error as a failure that is never tried again.
    ///
    /// # Errors
    /// If there was one.
    fn or_fatal(self) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> OrFatal<T> for Result<T, E> {
    #[track_caller]
    fn or_fatal(self) -> Result<T, Failure> {
        match self {
            Ok(value) => Ok(value),
            Err(error) => Err(error.into().fatal()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, thiserror::Error)]
    #[error("tank {tank} is empty")]
    struct Empty {
        tank: u8,
        #[source]
        #[serde(skip)]
        cause: Option<std::num::ParseIntError>,
    }

    fn empty() -> Empty {
        Empty { tank: 3, cause: "x".parse::<u8>().err() }
    }

    fn fails() -> Result<(), Failure> {
        Err(empty())?
    }

    #[test]
    fn an_error_becomes_a_failure_with_type_chain_and_place() {
        let here = line!() - 5;
        let fault = fails().expect_err("it fails").into_fault(Codec::Json);
        assert_eq!(fault.message, "tank 3 is empty");
        assert_eq!(fault.kind, "taskq_worker::failure::tests::Empty");
        assert_eq!(fault.chain, ["invalid digit found in string"]);
        assert!(
            fault.place.contains("failure.rs") && fault.place.contains(&format!(":{here}:")),
            "{}",
            fault.place
        );
        assert!(!fault.fatal && fault.value.is_empty() && fault.cause == Cause::Error);
        assert_eq!(fault.line("drive"), "drive: Empty: tank 3 is empty");
    }

    #[test]
    fn a_typed_error_travels_in_the_codec_of_its_call() {
        let json = Failure::typed(empty()).into_fault(Codec::Json);
        assert_eq!(json.value, r#"{"tank":3}"#);
        assert_eq!(json.chain, ["invalid digit found in string"]);
        let packed = Failure::typed(empty()).into_fault(Codec::Msgpack).value;
        assert_eq!(Codec::Msgpack.decode::<(u8,)>(&packed), Ok((3,)));
        assert_eq!(Failure::typed(empty()).into_fault(Codec::Raw).value, "");
    }

    #[test]
    fn a_typed_error_that_is_too_long_travels_in_words() {
        #[derive(Debug, Serialize, thiserror::Error)]
        #[error("too much")]
        struct Long(String);
        let fits = taskq_proto::INLINE_VALUE_BYTES - 2;
        for (length, travels) in [(fits, fits + 2), (fits + 1, 0)] {
            let fault = Failure::typed(Long("x".repeat(length))).into_fault(Codec::Json);
            assert_eq!((fault.value.len(), fault.message.as_str()), (travels, "too much"));
            assert!(fault.kind.ends_with("Long"), "{}", fault.kind);
        }
    }

    #[test]
    fn fatal_is_told_apart() {
        assert!(!Failure::new("x").is_fatal() && !Failure::from(empty()).is_fatal());
        assert!(Failure::new("x").fatal().is_fatal() && !Failure::new("x").fatal().retryable().is_fatal());
        let here = line!() + 1;
        let failure = "x".parse::<u8>().or_fatal().expect_err("no number");
        let fault = failure.into_fault(Codec::Json);
        assert!(fault.fatal && fault.place.contains(&format!(":{here}:")), "{fault:?}");
    }

    #[test]
    fn boxes_keep_their_chain() {
        let boxed: Box<dyn Error + Send + Sync> = Box::new(empty());
        let fault = Failure::boxed(boxed).into_fault(Codec::Json);
        assert_eq!((fault.message.as_str(), fault.chain.len()), ("tank 3 is empty", 1));
        assert_eq!(Failure::boxed("just words").into_fault(Codec::Json).message, "just words");
    }
}

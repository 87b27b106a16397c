//! Name → function. Types end here: what is left takes bytes and returns bytes, in the codec that its call names.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use taskq_client::Codec;

use crate::attempt::{Cause, Fault};
use crate::context::Context;
use crate::failure::Failure;

/// The most functions that a worker may announce.
const FUNCTIONS: usize = 4_096;
const NAME_BYTES: usize = 128;

/// What a call came to: its value, or why there is none.
pub(crate) type Returned = Result<Bytes, Box<Fault>>;
pub(crate) type Blocking = Arc<dyn Fn(&Bytes, &Context) -> Returned + Send + Sync>;
pub(crate) type Asynchronous = Arc<dyn Fn(Bytes, Context) -> Promise + Send + Sync>;
pub(crate) type Promise = Pin<Box<dyn Future<Output = Returned> + Send>>;

/// By which runtime a function is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Blocking,
    Asynchronous,
    Process,
}

/// A function without its types.
#[derive(Clone)]
pub(crate) enum Function {
    Blocking(Blocking),
    Asynchronous(Asynchronous),
    /// Here to be announced; it is run by the child, which has it too.
    Process(Blocking),
    /// Of a child that is another program.
    Foreign,
}

/// All functions of a worker.
#[derive(Clone, Default)]
pub(crate) struct Registry(BTreeMap<String, Function>);

impl Registry {
    /// # Panics
    /// The name is taken, or is none.
    pub(crate) fn add(&mut self, name: &str, function: Function) {
        if let Err(why) = self.try_add(name, function) {
            panic!("{why}");
        }
    }

    /// The error is for people.
    pub(crate) fn try_add(&mut self, name: &str, function: Function) -> Result<(), String> {
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-');
        if !starts_well || name.len() > NAME_BYTES || !name.chars().all(allowed) {
            return Err(format!(
                "{name:?} is no name for a function: it is 1 to 128 letters, digits, underscores, dots, colons or \
                 dashes, and starts with a letter or underscore"
            ));
        }
        if self.0.insert(name.to_owned(), function).is_some() {
            return Err(format!("function {name:?} is registered twice"));
        }
        if self.0.len() > FUNCTIONS {
            return Err(format!("a worker has at most {FUNCTIONS} functions"));
        }
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Function> {
        self.0.get(name)
    }

    pub(crate) fn kind(&self, name: &str) -> Option<Kind> {
        self.get(name).map(Function::kind)
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.0.iter().map(|(name, function)| (name.as_str(), function.kind()))
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.kinds().any(|(_, is)| is == kind)
    }

    /// Whether some function is to run in children of this program.
    pub(crate) fn has_process(&self) -> bool {
        self.0.values().any(|function| matches!(function, Function::Process(_)))
    }

    /// A call of a function that is not here.
    pub(crate) fn missing(&self, name: &str, worker: &str) -> Box<Fault> {
        let here: Vec<&str> = self.0.keys().map(String::as_str).take(20).collect();
        let here = if here.is_empty() { "none".to_owned() } else { here.join(", ") };
        let message = format!("worker {worker} has no function {name:?}; it has {here}");
        Fault::new(Cause::Function, message)
    }
}

impl Function {
    fn kind(&self) -> Kind {
        match self {
            Function::Blocking(_) => Kind::Blocking,
            Function::Asynchronous(_) => Kind::Asynchronous,
            Function::Process(_) | Function::Foreign => Kind::Process,
        }
    }
}

/// Takes the types off a function that blocks its thread.
pub(crate) fn blocking<A, R>(
    function: impl Fn(A, &Context) -> Result<R, Failure> + Send + Sync + 'static,
) -> Blocking
where
    A: DeserializeOwned,
    R: Serialize,
{
    Arc::new(move |argument, context| {
        let codec = codec(context)?;
        let argument = read(codec, argument, context)?;
        write(codec, function(argument, context), context)
    })
}

/// Takes the types off an asynchronous function.
pub(crate) fn asynchronous<A, R, F>(
    function: impl Fn(A, Context) -> F + Send + Sync + 'static,
) -> Asynchronous
where
    A: DeserializeOwned + Send,
    R: Serialize,
    F: Future<Output = Result<R, Failure>> + Send + 'static,
{
    let function = Arc::new(function);
    Arc::new(move |argument, context| {
        let function = Arc::clone(&function);
        Box::pin(async move {
            let codec = codec(&context)?;
            let argument = read(codec, &argument, &context)?;
            let returned = function(argument, context.clone()).await;
            write(codec, returned, &context)
        })
    })
}

fn codec(context: &Context) -> Result<Codec, Box<Fault>> {
    let name = context.codec();
    name.parse().map_err(|error| {
        let message = format!("function {} cannot read its argument: {error}", context.function());
        Fault::new(Cause::Argument, message).fatal()
    })
}

fn read<A: DeserializeOwned>(codec: Codec, argument: &[u8], context: &Context) -> Result<A, Box<Fault>> {
    codec.decode(argument).map_err(|mismatch| {
        let message = format!("the argument of function {}: {mismatch}", context.function());
        Fault::new(Cause::Argument, message).of("Mismatch").fatal()
    })
}

fn write<R: Serialize>(codec: Codec, returned: Result<R, Failure>, context: &Context) -> Returned {
    let value = returned.map_err(|failure| failure.into_fault(codec))?;
    let bytes = codec.encode(&value).map_err(|unwritable| {
        let message = format!("what function {} returned: {unwritable}", context.function());
        Fault::new(Cause::Result, message).of("Unwritable").fatal()
    })?;
    fits(bytes, context.function())
}

/// A value that is too long is no value.
pub(crate) fn fits(value: Bytes, function: &str) -> Returned {
    let limit = taskq_proto::VALUE_BYTES;
    if value.len() <= limit {
        return Ok(value);
    }
    let message = format!(
        "what function {function} returned is {} bytes long; {limit} is the most: store it elsewhere, and return where",
        value.len()
    );
    Err(Fault::new(Cause::Result, message).fatal())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function() -> Function {
        Function::Blocking(blocking(|(): (), _: &Context| Ok(())))
    }

    #[test]
    fn names_are_checked_and_unique() {
        let mut registry = Registry::default();
        for name in ["a", "_", "images::resize-2.fast", &"x".repeat(128)] {
            assert_eq!(registry.try_add(name, function()), Ok(()));
        }
        for wrong in ["", "1a", "-a", "a b", "ä", &"x".repeat(129)] {
            let said = registry.try_add(wrong, function()).expect_err(wrong);
            assert!(said.contains("is no name for a function"), "{said}");
        }
        let twice = registry.try_add("a", function()).expect_err("it is there");
        assert_eq!(twice, "function \"a\" is registered twice");
    }

    #[test]
    #[should_panic(expected = "function \"f\" is registered twice")]
    fn twice_is_a_mistake_of_the_program() {
        let mut registry = Registry::default();
        registry.add("f", function());
        registry.add("f", function());
    }

    #[test]
    fn what_is_missing_is_told_with_what_is_there() {
        let mut registry = Registry::default();
        assert!(registry.missing("g", "w1").message.ends_with("it has none"));
        registry.add("f", function());
        let fault = registry.missing("g", "w1");
        assert_eq!(fault.message, "worker w1 has no function \"g\"; it has f");
        assert!(!fault.fatal && fault.cause == Cause::Function);
    }

    #[test]
    fn values_have_a_longest() {
        assert!(fits(Bytes::from_static(b"x"), "f").is_ok());
        let long = Bytes::from(vec![0; taskq_proto::VALUE_BYTES + 1]);
        let fault = fits(long, "f").expect_err("too long");
        assert!(
            fault.fatal && fault.cause == Cause::Result && fault.message.contains("268435457 bytes"),
            "{fault:?}"
        );
    }
}

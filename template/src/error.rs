//! What can be wrong with a template. Every message says what to write instead.

use std::fmt;

/// A template that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Which argument, from 0.
    pub argument: usize,
    /// Where in that argument, in bytes from its start.
    pub byte: usize,
    /// The offending text, as it was written.
    pub text: String,
    /// What is wrong with it.
    pub problem: Problem,
    /// What to write instead.
    pub suggestion: String,
}

/// What is wrong with a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// A name that no column has.
    UnknownName,
    /// A column number that does not exist.
    NoSuchColumn,
    /// There is no argument at all, or its program is empty.
    Empty,
    /// A shell template of more or less than one argument.
    NotOneScript,
    /// A NUL byte, which no program can be given.
    Nul,
    /// A place in a script where no value can be quoted safely.
    Unquotable,
    /// The item cannot be appended to this script.
    CannotAppend,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, argument, byte) = (&self.text, self.argument + 1, self.byte);
        match self.problem {
            Problem::UnknownName => {
                write!(f, "unknown placeholder {text} in argument {argument} at byte {byte}")?
            }
            Problem::NoSuchColumn => {
                write!(f, "{text} in argument {argument} at byte {byte} names no column")?
            }
            Problem::Empty => write!(f, "there is no command to run")?,
            Problem::NotOneScript => {
                write!(f, "a shell command is one argument, the script; this has {text}")?
            }
            Problem::Nul => write!(f, "argument {argument} has a NUL byte at byte {byte}")?,
            Problem::Unquotable => {
                write!(f, "{text} at byte {byte} of the script stands where no value can be quoted safely")?;
            }
            Problem::CannotAppend => {
                write!(f, "the item cannot be appended to this script, which ends in {text}")?
            }
        }
        write!(f, "; {}", self.suggestion)
    }
}

impl std::error::Error for Error {}

//! How jobs and tasks are named on the command line: `42`, `42.7`, `42.1-5,9`, `last`, `last~1`, `-`. A command that
//! takes whole jobs takes [`WholeJob`], so that no task can reach it.
//! Parsing only; `last` is looked up in `context.rs`, and `-` is read there from standard input.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// One selector: a job, and perhaps only some of its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) job: JobRef,
    /// Empty means the whole job.
    pub(crate) tasks: Vec<Span>,
}

/// A selector that cannot name tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WholeJob(JobRef);

/// What a command may be given: jobs and tasks, or whole jobs.
pub(crate) trait Select: FromStr<Err = Error> + Clone + Send + Sync + 'static {
    /// What `--help` says about it.
    const HELP: &'static str;
    /// Its job.
    fn job(&self) -> JobRef;
    /// Its tasks; empty means the whole job.
    fn tasks(&self) -> &[Span];
}

impl Select for Selector {
    const HELP: &'static str = "Jobs and tasks, which count from 0: 42, 42.7, 42.1-5,9, last, last~1, or - to read them from standard input";

    fn job(&self) -> JobRef {
        self.job
    }

    fn tasks(&self) -> &[Span] {
        &self.tasks
    }
}

impl Select for WholeJob {
    const HELP: &'static str = "Whole jobs: 42, last, last~1, or - to read them from standard input";

    fn job(&self) -> JobRef {
        self.0
    }

    fn tasks(&self) -> &[Span] {
        &[]
    }
}

/// Which job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobRef {
    Id(u64),
    /// The job submitted `back` jobs before the newest one.
    Last {
        back: u32,
    },
}

/// Task indices `first` to `last`, both included. The first task of a job has index 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

/// A selector as typed: standard input stands for many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Typed<S = Selector> {
    One(S),
    /// `-`: selectors are read from standard input, separated by white space.
    Stdin,
}

/// What is wrong with a selector, and where. Positions count characters from 1.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum Error {
    #[error(
        "bad selector {text:?}: {problem} at position {position} (examples: 42, 42.7, 42.1-5,9, last, last~1, -)"
    )]
    Malformed { text: String, problem: &'static str, position: usize },
    #[error(
        "{text:?} names tasks, but this command takes whole jobs; write {job} (single tasks can be cancelled and \
         retried: taskq cancel {text})"
    )]
    Tasks { text: String, job: JobRef },
}

impl<S: Select> FromStr for Typed<S> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Typed<S>, Error> {
        match text {
            "-" => Ok(Typed::Stdin),
            _ => text.parse().map(Typed::One),
        }
    }
}

impl FromStr for Selector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Selector, Error> {
        let mut cursor = Cursor { text, at: 0 };
        let job = job_ref(&mut cursor)?;
        let mut tasks = Vec::new();
        if cursor.take('.') {
            tasks.push(span(&mut cursor)?);
            while cursor.take(',') {
                tasks.push(span(&mut cursor)?);
            }
        }
        match cursor.rest().is_empty() {
            true => Ok(Selector { job, tasks }),
            false => Err(cursor.error("unexpected character")),
        }
    }
}

impl FromStr for WholeJob {
    type Err = Error;

    fn from_str(text: &str) -> Result<WholeJob, Error> {
        match text.parse::<Selector>()? {
            Selector { job, tasks } if tasks.is_empty() => Ok(WholeJob(job)),
            Selector { job, .. } => Err(Error::Tasks { text: text.to_owned(), job }),
        }
    }
}

fn job_ref(cursor: &mut Cursor) -> Result<JobRef, Error> {
    if !cursor.take_word("last") {
        let start = cursor.at;
        return match cursor.number("a job number or `last` was expected")? {
            0 => Err(Cursor { at: start, ..*cursor }.error("job numbers begin at 1")),
            id => Ok(JobRef::Id(id)),
        };
    }
    if !cursor.take('~') {
        return Ok(JobRef::Last { back: 0 });
    }
    let start = cursor.at;
    let back = cursor.number("a number was expected")?;
    let back = u32::try_from(back).map_err(|_| Cursor { at: start, ..*cursor }.error("number too large"))?;
    Ok(JobRef::Last { back })
}

fn span(cursor: &mut Cursor) -> Result<Span, Error> {
    let start = cursor.at;
    let first = index(cursor)?;
    let last = if cursor.take('-') { index(cursor)? } else { first };
    if last < first {
        return Err(Cursor { at: start, ..*cursor }.error("the range ends before it begins"));
    }
    Ok(Span { first, last })
}

fn index(cursor: &mut Cursor) -> Result<u32, Error> {
    let start = cursor.at;
    let number = cursor.number("a task index was expected")?;
    u32::try_from(number).map_err(|_| Cursor { at: start, ..*cursor }.error("task index too large"))
}

#[derive(Clone, Copy)]
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        self.at += if found { wanted.len_utf8() } else { 0 };
        found
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let found = self.rest().starts_with(wanted);
        self.at += if found { wanted.len() } else { 0 };
        found
    }

    fn number(&mut self, problem: &'static str) -> Result<u64, Error> {
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(self.error(problem));
        }
        let number = self.rest()[..digits].parse().map_err(|_| self.error("number too large"))?;
        self.at += digits;
        Ok(number)
    }

    fn error(&self, problem: &'static str) -> Error {
        let position = self.text[..self.at].chars().count() + 1;
        Error::Malformed { text: self.text.to_owned(), problem, position }
    }
}

impl fmt::Display for JobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobRef::Id(id) => write!(f, "{id}"),
            JobRef::Last { back: 0 } => write!(f, "last"),
            JobRef::Last { back } => write!(f, "last~{back}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.job)?;
        for (n, span) in self.tasks.iter().enumerate() {
            write!(f, "{}{span}", if n == 0 { "." } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// The first of the `wanted` indices that is none of those that are `there`, which come in ascending order.
pub(crate) fn first_beyond(wanted: &[Span], there: &[Span]) -> Option<u32> {
    for span in wanted {
        let mut next = span.first;
        for known in there {
            if known.first <= next && next <= known.last {
                match known.last.checked_add(1) {
                    Some(after) if after <= span.last => next = after,
                    _ => {
                        next = span.last;
                        break;
                    }
                }
            }
        }
        if !there.iter().any(|known| known.first <= next && next <= known.last) {
            return Some(next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_alike() {
        for text in ["42", "42.7", "42.1-5,9", "last", "last~1", "last~3.0-2"] {
            let selector: Selector = text.parse().expect(text);
            assert_eq!(selector.to_string(), text);
        }
        assert_eq!("-".parse(), Ok(Typed::<Selector>::Stdin));
        assert_eq!(
            "42.1-5,9".parse(),
            Ok(Selector {
                job: JobRef::Id(42),
                tasks: vec![Span { first: 1, last: 5 }, Span { first: 9, last: 9 }]
            })
        );
    }

    #[test]
    fn the_first_index_that_is_not_there_is_found() {
        let spans = |text: &str| text.parse::<Selector>().expect(text).tasks;
        let there = spans("1.3-5,6-8,10");
        for (wanted, beyond) in [
            ("1.3", None),
            ("1.4-8", None),
            ("1.10,3", None),
            ("1.2", Some(2)),
            ("1.4-9", Some(9)),
            ("1.3-10", Some(9)),
            ("1.10-4294967295", Some(11)),
            ("1.5,11", Some(11)),
        ] {
            assert_eq!(first_beyond(&spans(wanted), &there), beyond, "{wanted}");
        }
        assert_eq!(first_beyond(&spans("1.0-4294967295"), &spans("1.0-4294967295")), None);
    }

    #[test]
    fn a_bad_one_names_the_position() {
        for (text, position) in [
            ("", 1),
            ("x", 1),
            ("0", 1),
            ("42x", 3),
            ("42.", 4),
            ("42.1-", 6),
            ("42.5-1", 4),
            ("42.1,", 6),
            ("last~", 6),
            ("lastx", 5),
            ("42.4294967296", 4),
            ("99999999999999999999999", 1),
            ("42.é", 4),
            ("-1", 1),
        ] {
            let error = text.parse::<Selector>().expect_err(text);
            let named = format!(" at position {position} ");
            assert!(error.to_string().contains(&named), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_whole_job_has_no_tasks() {
        for (text, job) in
            [("42", JobRef::Id(42)), ("last", JobRef::Last { back: 0 }), ("last~1", JobRef::Last { back: 1 })]
        {
            assert_eq!(text.parse(), Ok(WholeJob(job)));
        }
        let error = "last~1.3-4".parse::<WholeJob>().expect_err("tasks");
        assert_eq!(error, Error::Tasks { text: "last~1.3-4".to_owned(), job: JobRef::Last { back: 1 } });
        assert!(error.to_string().contains("write last~1"), "{error}");
        assert!("42x".parse::<WholeJob>().is_err());
    }
}

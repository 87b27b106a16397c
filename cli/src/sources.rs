//! Where the elements of a job come from: `:::` values, files of lines, CSV, JSON lines, ranges of numbers.
//! Reads and checks them; the client library keeps and sends them.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use taskq_client::{Elements, Source};
use taskq_template::Template;
use thiserror::Error;

use self::array::Array;

mod arguments;
mod array;
mod format;
mod json;

/// What a source may be wrong about.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{}, line {line}: {problem}", .path.display())]
    Line { path: PathBuf, line: usize, problem: String },
    #[error("{}: {problem}", .path.display())]
    File { path: PathBuf, problem: String },
    #[error(
        "{}, line {line} lacks the key {key:?}, which the command uses; write it as null if it is to be empty",
        .path.display()
    )]
    Key { path: PathBuf, line: usize, key: String },
    #[error("`{0}` needs values after it")]
    NoValues(&'static str),
    #[error("`{0}` is not known here: sources side by side are given with --zip and `:::`")]
    Linked(String),
    #[error(
        "a function is called with one argument, so that there is one source; put what belongs together into lines of JSON (--jsonl)"
    )]
    OneSource,
    #[error("standard input can be the source of one option only")]
    StdinTwice,
}

impl Error {
    /// True if a file could not be read; otherwise what it says is wrong.
    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self, Error::Read { .. })
    }
}

/// The flags that name sources.
#[derive(clap::Args, Clone, Debug, Default)]
#[group(skip)]
#[command(next_help_heading = "Elements: one task for each (several sources are combined as a product)")]
pub(crate) struct Args {
    /// One task per line of the file (`-`: standard input)
    #[arg(long, value_name = "FILE")]
    each_line: Vec<PathBuf>,
    /// One task per NUL-terminated record of the file, as `find -print0` writes them
    #[arg(long, value_name = "FILE")]
    each_null: Vec<PathBuf>,
    /// One task per record of a CSV file; its header names the fields for {name}
    #[arg(long, value_name = "FILE")]
    csv: Vec<PathBuf>,
    /// One task per line of JSON; keys are the fields for {name}, {user.id} for nested ones;
    /// those that the command uses must be in each line
    #[arg(long, value_name = "FILE")]
    jsonl: Vec<PathBuf>,
    #[arg(
        long,
        value_name = "RANGE",
        help = "One task per number: FIRST-LAST[:STEP][%PARALLEL], as in 1-1000:2%50"
    )]
    array: Vec<Array>,
    /// Combine the sources side by side instead of as a product; all must have the same length
    #[arg(long)]
    zip: bool,
}

impl Args {
    /// Reads everything, in this order: `trailing` (from `:::`), lines, NUL records, CSV, JSON, ranges.
    pub(crate) fn read(&self, trailing: Vec<Trailing>) -> Result<Values, Error> {
        let mut files = Files::default();
        let mut elements = Elements::new();
        let (mut gaps, mut fields_unknown) = (Vec::new(), false);
        for one in trailing {
            elements = match one {
                Trailing::Values(values) => elements.items(values.iter().map(|value| value.as_bytes())),
                Trailing::File(path) => elements.source(format::lines(&path, &files.read(&path)?)?),
            };
        }
        for path in &self.each_line {
            elements = elements.source(format::lines(path, &files.read(path)?)?);
        }
        for path in &self.each_null {
            elements = elements.source(format::records(path, &files.read(path)?)?);
        }
        for path in &self.csv {
            let records = format::csv_records(path, &files.read(path)?)?;
            fields_unknown |= records.is_none();
            elements = elements.source(records.unwrap_or_else(Source::items));
        }
        for path in &self.jsonl {
            let records = json::json_lines(path, &files.read(path)?)?;
            fields_unknown |= records.is_none();
            let (source, missing) = records.unwrap_or_else(|| (Source::items(), Vec::new()));
            let before = elements.columns().len();
            let gap = |lacks: json::Missing| Gap { column: before + lacks.column, path: path.clone(), lacks };
            gaps.extend(missing.into_iter().map(gap));
            elements = elements.source(source);
        }
        for array in &self.array {
            elements = elements.range(array.first, array.step, array.count);
        }
        let elements = if self.zip { elements.zip() } else { elements };
        Ok(Values { elements, gaps, fields_unknown })
    }

    /// True if one of them is standard input.
    pub(crate) fn takes_stdin(&self) -> bool {
        let files = [&self.each_line, &self.each_null, &self.csv, &self.jsonl];
        files.into_iter().flatten().any(|path| path.as_os_str() == "-")
    }

    /// The `%PARALLEL` of `--array`: the smallest one counts.
    pub(crate) fn max_parallel(&self) -> Option<u32> {
        self.array.iter().filter_map(|array| array.parallel).min()
    }
}

/// What the sources gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    pub(crate) elements: Elements,
    gaps: Vec<Gap>,
    /// A file of records is empty: it has no element, and does not say which fields one would have.
    pub(crate) fields_unknown: bool,
}

/// A line of JSON that lacks what others have.
#[derive(Clone, Debug)]
struct Gap {
    /// Among those of all sources.
    column: usize,
    path: PathBuf,
    lacks: json::Missing,
}

impl Values {
    /// A line may lack what the command does not use.
    pub(crate) fn check(&self, template: &Template) -> Result<(), Error> {
        match self.gaps.iter().find(|gap| template.uses_column(gap.column)) {
            Some(Gap { path, lacks, .. }) => {
                Err(Error::Key { path: path.clone(), line: lacks.line, key: lacks.key.clone() })
            }
            None => Ok(()),
        }
    }
}

/// What stands behind a command: `::: a b` or `:::: file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trailing {
    Values(Vec<OsString>),
    File(PathBuf),
}

/// Splits a command line at its first `:::` or `::::`.
pub(crate) fn split(words: Vec<OsString>) -> Result<(Vec<OsString>, Vec<Trailing>), Error> {
    let is_mark = |word: &OsString| word == ":::" || word == "::::";
    let end = words.iter().position(is_mark).unwrap_or(words.len());
    if let Some(linked) = words.iter().find(|word| *word == ":::+" || *word == "::::+") {
        return Err(Error::Linked(linked.to_string_lossy().into_owned()));
    }
    let (command, mut rest) = (words[..end].to_vec(), &words[end..]);
    let mut sources = Vec::new();
    while let Some((mark, tail)) = rest.split_first() {
        let next = tail.iter().position(is_mark).unwrap_or(tail.len());
        let (values, tail) = tail.split_at(next);
        rest = tail;
        match mark == ":::" {
            // An empty list is fine: a glob that the shell expanded to nothing.
            true => sources.push(Trailing::Values(values.to_vec())),
            false if values.is_empty() => return Err(Error::NoValues("::::")),
            false => sources.extend(values.iter().map(|path| Trailing::File(PathBuf::from(path)))),
        }
    }
    Ok((command, sources))
}

/// Reads files; standard input only once.
#[derive(Default)]
struct Files {
    stdin_taken: bool,
}

impl Files {
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, Error> {
        let fail = |cause| Error::Read { path: path.to_owned(), cause };
        if path.as_os_str() != "-" {
            return std::fs::read(path).map_err(fail);
        }
        if std::mem::replace(&mut self.stdin_taken, true) {
            return Err(Error::StdinTwice);
        }
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(fail)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_command_line_is_split_at_its_marks() {
        let (command, sources) = split(words("gzip -k {} ::: a b :::: f g")).expect("split");
        assert_eq!(command, words("gzip -k {}"));
        let file = |name: &str| Trailing::File(PathBuf::from(name));
        assert_eq!(sources, [Trailing::Values(words("a b")), file("f"), file("g")]);
        let (_, sources) = split(words("x :::")).expect("an empty list is fine");
        assert_eq!(sources, [Trailing::Values(vec![])]);
        assert!(split(words("x ::::")).is_err(), "a file is missing");
        let error = split(words("x ::: a b :::+ 1 2")).expect_err("no element").to_string();
        assert!(error.contains(":::+") && error.contains("--zip"), "{error}");
        assert_eq!(split(words("x")).expect("split").1, []);
    }
}

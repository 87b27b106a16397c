//! Sources as arguments of a function: each element one argument, in JSON. A function takes one argument, so there is
//! one source; a row of CSV is an object.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::{Map, Value};
use taskq_client::{Elements, Source};

use super::format::{self, Records, file};
use super::{Args, Error, Files, Trailing};
use crate::value::{json_or_text, not_json};

impl Args {
    /// Reads the one source that there is; none gives no elements.
    pub(crate) fn read_arguments(&self, trailing: Vec<Trailing>) -> Result<Elements, Error> {
        let files = [&self.each_line, &self.each_null, &self.csv, &self.jsonl];
        let sources =
            trailing.len() + files.iter().map(|paths| paths.len()).sum::<usize>() + self.array.len();
        if sources > 1 {
            return Err(Error::OneSource);
        }
        let mut files = Files::default();
        let elements = Elements::new();
        if let Some(one) = trailing.into_iter().next() {
            return Ok(elements.source(match one {
                Trailing::Values(values) => {
                    words(Path::new(":::"), values.iter().map(|value| value.as_bytes().to_vec()))?
                }
                Trailing::File(path) => lines(&path, &files.read(&path)?)?,
            }));
        }
        if let Some(path) = self.each_line.first() {
            return Ok(elements.source(lines(path, &files.read(path)?)?));
        }
        if let Some(path) = self.each_null.first() {
            let bytes = files.read(path)?;
            return Ok(elements.source(words(path, rows(format::records(path, &bytes)?))?));
        }
        if let Some(path) = self.csv.first() {
            return Ok(elements.source(objects(path, &files.read(path)?)?));
        }
        if let Some(path) = self.jsonl.first() {
            return Ok(elements.source(json_lines(path, &files.read(path)?)?));
        }
        Ok(match self.array.first() {
            Some(array) => elements.range(array.first, array.step, array.count),
            None => elements,
        })
    }
}

/// The one field of each row.
fn rows(source: Source) -> impl Iterator<Item = Vec<u8>> {
    let elements = Elements::new().source(source);
    let count = elements.total().unwrap_or(0);
    (0..count).filter_map(move |row| elements.row(row).ok()?.pop()).map(Vec::from)
}

fn lines(path: &Path, bytes: &[u8]) -> Result<Source, Error> {
    words(path, rows(format::lines(path, bytes)?))
}

/// Words as JSON if they are some, else as texts.
fn words(path: &Path, words: impl Iterator<Item = Vec<u8>>) -> Result<Source, Error> {
    let mut source = Source::arguments();
    for (n, word) in words.enumerate() {
        let problem = || Error::Line {
            path: path.to_owned(),
            line: n + 1,
            problem: "is neither JSON nor UTF-8, and so no argument of a function".to_owned(),
        };
        source.push(&[json_or_text(&word).ok_or_else(problem)?]).map_err(|cause| file(path, &cause))?;
    }
    Ok(source)
}

/// Any JSON, one a line; empty lines are passed over.
fn json_lines(path: &Path, bytes: &[u8]) -> Result<Source, Error> {
    let mut source = Source::arguments();
    for (n, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if let Some(cause) = not_json(line) {
            return Err(Error::Line { path: path.to_owned(), line: n + 1, problem: cause.to_string() });
        }
        source.push(&[line]).map_err(|cause| file(path, &cause))?;
    }
    Ok(source)
}

/// An object for each record: the header names its keys, and its values are texts.
fn objects(path: &Path, bytes: &[u8]) -> Result<Source, Error> {
    let records: Records<Source> = format::csv_records(path, bytes)?;
    let mut source = Source::arguments();
    let Some(records) = records else { return Ok(source) };
    let elements = Elements::new().source(records);
    let names = elements.columns();
    for row in 0..elements.total().map_err(|cause| file(path, &cause))? {
        let fields = elements.row(row).map_err(|cause| file(path, &cause))?;
        let mut object = Map::new();
        for (name, field) in names.iter().zip(fields) {
            let text = std::str::from_utf8(&field).map_err(|cause| file(path, &cause))?;
            object.insert(name.clone(), Value::from(text));
        }
        source.push(&[Value::Object(object).to_string()]).map_err(|cause| file(path, &cause))?;
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::super::format::tests::rows;
    use super::*;

    fn flat(source: Source) -> Vec<String> {
        rows(source).concat()
    }

    #[test]
    fn each_format_has_its_arguments() {
        let path = Path::new("f");
        let text = b"30\na.jpg\n\"a\"\n[1, 2]\n\n";
        let expected = ["30", "\"a.jpg\"", "\"a\"", "[1, 2]", "\"\""];
        assert_eq!(flat(lines(path, text).expect("lines")), expected);
        let json = b" {\"a\": [1,\t2]} \n\n12345678901234567890123\n";
        let expected = ["{\"a\": [1,\t2]}", "12345678901234567890123"];
        assert_eq!(flat(json_lines(path, json).expect("JSON lines")), expected);
        let csv = "name,n\n\"b, a\",1\nä,\n".as_bytes();
        let expected = ["{\"name\":\"b, a\",\"n\":\"1\"}", "{\"name\":\"ä\",\"n\":\"\"}"];
        assert_eq!(flat(objects(path, csv).expect("CSV")), expected);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let wrong = json_lines(Path::new("f.jsonl"), b"1\n\n{\"a\":}\n").expect_err("no JSON").to_string();
        assert!(wrong.starts_with("f.jsonl, line 3: "), "{wrong}");
        let wrong = lines(Path::new("f"), b"a\n\xff\n").expect_err("no text").to_string();
        assert!(wrong.starts_with("f, line 2: is neither JSON nor UTF-8"), "{wrong}");
    }

    #[test]
    fn two_sources_are_one_too_many() {
        let values = || Trailing::Values(vec!["a".into()]);
        let wrong = Args::default().read_arguments(vec![values(), values()]).expect_err("two").to_string();
        assert!(wrong.contains("one argument"), "{wrong}");
        assert!(Args::default().read_arguments(vec![]).expect("none").is_empty());
    }
}

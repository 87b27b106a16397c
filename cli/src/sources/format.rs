//! The file formats that elements come in: lines, NUL-terminated records, CSV; JSON lines are in `json.rs`.
//! Bytes in, rows out; who reads the file is `sources.rs`.

use std::path::Path;

use taskq_client::Source;

use super::Error;

/// One row per line; the last line may lack its end. Empty lines count.
pub(super) fn lines(path: &Path, bytes: &[u8]) -> Result<Source, Error> {
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        let problem =
            "contains a NUL byte; if these are records of `find -print0`, use --each-null".to_owned();
        return Err(Error::Line { path: path.to_owned(), line, problem });
    }
    split(path, bytes, b'\n')
}

/// One row per record that ends with a NUL byte.
pub(super) fn records(path: &Path, bytes: &[u8]) -> Result<Source, Error> {
    split(path, bytes, 0)
}

fn split(path: &Path, bytes: &[u8], end: u8) -> Result<Source, Error> {
    let mut source = Source::items();
    if bytes.is_empty() {
        return Ok(source);
    }
    for record in bytes.strip_suffix(&[end]).unwrap_or(bytes).split(|byte| *byte == end) {
        source.push(&[record]).map_err(|cause| file(path, &cause))?;
    }
    Ok(source)
}

/// What a file of records has, if it has a word at all: an empty one does not say how its fields are called.
pub(super) type Records<T> = Option<T>;

/// The header names the columns.
pub(super) fn csv_records(path: &Path, bytes: &[u8]) -> Result<Records<Source>, Error> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    if let Some(line) = open_quote(bytes) {
        let problem = "the quote that opens a field here is never closed".to_owned();
        return Err(Error::Line { path: path.to_owned(), line, problem });
    }
    let mut reader = csv::Reader::from_reader(bytes);
    let columns = reader.headers().map_err(|cause| file(path, &cause))?.clone();
    let mut source = Source::columns(columns.iter());
    for record in reader.byte_records() {
        let record = record.map_err(|cause| file(path, &cause))?;
        let fields: Vec<&[u8]> = record.iter().collect();
        source.push(&fields).map_err(|cause| file(path, &cause))?;
    }
    Ok(Some(source))
}

/// The line, from 1, of a quote that is still open at the end, which the reader of CSV takes for the end of its field.
fn open_quote(bytes: &[u8]) -> Option<usize> {
    enum At {
        Start,
        Plain,
        Quoted {
            since: usize,
        },
        /// Behind a quote inside a quoted field: its end, or the first of two that stand for one.
        Quote {
            since: usize,
        },
    }
    let (mut at, mut line) = (At::Start, 1);
    for byte in bytes {
        at = match (at, byte) {
            (At::Start, b'"') => At::Quoted { since: line },
            (At::Quoted { since }, b'"') => At::Quote { since },
            (At::Quote { since }, b'"') | (At::Quoted { since }, _) => At::Quoted { since },
            (At::Start | At::Plain | At::Quote { .. }, b',' | b'\n' | b'\r') => At::Start,
            (At::Start | At::Plain | At::Quote { .. }, _) => At::Plain,
        };
        line += usize::from(*byte == b'\n');
    }
    match at {
        At::Quoted { since } => Some(since),
        At::Start | At::Plain | At::Quote { .. } => None,
    }
}

pub(super) fn file(path: &Path, problem: &dyn std::fmt::Display) -> Error {
    Error::File { path: path.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
pub(super) mod tests {
    use taskq_client::Elements;

    use super::*;

    pub(in crate::sources) fn rows(source: Source) -> Vec<Vec<String>> {
        let elements = Elements::new().source(source);
        let row = |n| elements.row(n).expect("a row");
        let text = |field: &[u8]| String::from_utf8(field.to_vec()).expect("UTF-8");
        (0..elements.total().expect("total"))
            .map(|n| row(n).iter().map(|field| text(field)).collect())
            .collect()
    }

    pub(in crate::sources) fn columns(source: &Source) -> Vec<String> {
        Elements::new().source(source.clone()).columns()
    }

    #[test]
    fn lines_and_records_keep_empty_ones_but_the_last() {
        let path = Path::new("f");
        assert_eq!(rows(lines(path, b"a\n\nb\n").expect("lines")), [["a"], [""], ["b"]]);
        assert_eq!(rows(lines(path, b"a\nb").expect("lines")), [["a"], ["b"]]);
        assert_eq!(lines(path, b"").expect("lines").len(), 0);
        assert_eq!(rows(records(path, b"a\nb\0c\0").expect("records")), [["a\nb"], ["c"]]);
        assert_eq!(records(path, b"").expect("records").len(), 0);
        let error = lines(path, b"a\nb\0c").expect_err("NUL").to_string();
        assert!(error.starts_with("f, line 2:") && error.contains("--each-null"), "{error}");
    }

    #[test]
    fn a_csv_header_names_the_fields() {
        let source =
            csv_records(Path::new("f"), b"\xef\xbb\xbfuser,city\nann,\"a, b\"\nbob,c\n").expect("csv");
        let source = source.expect("records");
        assert_eq!(columns(&source), ["user", "city"]);
        assert_eq!(rows(source), [["ann", "a, b"], ["bob", "c"]]);
        assert!(csv_records(Path::new("f"), b"a,b\n1\n").is_err(), "a short record is refused");
        assert!(csv_records(Path::new("f"), b"a\n\0\n").is_err(), "NUL");
    }

    #[test]
    fn a_file_without_a_word_has_no_records_of_any_kind() {
        for empty in [&b""[..], b"\n", b" \r\n\n"] {
            assert!(csv_records(Path::new("f"), empty).expect("csv").is_none());
            assert!(super::super::json::json_lines(Path::new("f"), empty).expect("json").is_none());
        }
    }

    #[test]
    fn a_quote_that_is_never_closed_is_named() {
        for (text, line) in
            [("a,b\n1,\"2\n3,4\n", 2), ("\"a", 1), ("a\n\"x\"\"\n", 2), ("a\n\"x\ny\"\n\"", 4)]
        {
            let error = csv_records(Path::new("f"), text.as_bytes()).expect_err(text).to_string();
            assert!(error.starts_with(&format!("f, line {line}: the quote")), "{text:?}: {error}");
        }
        for text in ["a\n\"x\ny\"\n", "a\nx\"y\n", "a\n\"\"\n", "a,b\n\"x\"\"\",\"y\"", "a\n\"x\"y\n"] {
            assert!(csv_records(Path::new("f"), text.as_bytes()).is_ok(), "{text:?}");
        }
    }
}

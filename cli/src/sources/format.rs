//! The file formats that elements come in: lines, NUL-terminated records, CSV, JSON lines.
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

/// The header names the columns.
pub(super) fn csv_records(path: &Path, bytes: &[u8]) -> Result<Source, Error> {
    let mut reader = csv::Reader::from_reader(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    let columns = reader.headers().map_err(|cause| file(path, &cause))?.clone();
    if columns.is_empty() {
        return Err(file(path, &"it has no header line that names its columns"));
    }
    let mut source = Source::columns(columns.iter());
    for record in reader.byte_records() {
        let record = record.map_err(|cause| file(path, &cause))?;
        let fields: Vec<&[u8]> = record.iter().collect();
        source.push(&fields).map_err(|cause| file(path, &cause))?;
    }
    Ok(source)
}

/// A key that an object lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// Which column it would have filled, from 0.
    pub(super) column: usize,
    pub(super) key: String,
    /// The first line without it, from 1.
    pub(super) line: usize,
}

/// The keys of all objects together are the columns. What an object lacks is empty, and is told, each key once.
pub(super) fn json_lines(path: &Path, bytes: &[u8]) -> Result<(Source, Vec<Missing>), Error> {
    let mut columns: Vec<String> = Vec::new();
    let mut rows: Vec<(usize, Vec<(usize, String)>)> = Vec::new();
    for (n, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let bad = |problem: String| Error::Line { path: path.to_owned(), line: n + 1, problem };
        let value: serde_json::Value =
            serde_json::from_slice(line).map_err(|cause| bad(cause.to_string()))?;
        if !value.is_object() {
            return Err(bad("is not a JSON object; its keys name the fields".to_owned()));
        }
        let mut row = Vec::new();
        flatten("", &value, &mut |key, text| {
            let column = columns.iter().position(|known| known == key).unwrap_or(columns.len());
            if column == columns.len() {
                columns.push(key.to_owned());
            }
            row.push((column, text));
        });
        rows.push((n + 1, row));
    }
    if columns.is_empty() && !rows.is_empty() {
        return Err(file(path, &"its objects have no keys"));
    }
    let mut source = Source::columns(columns.iter());
    let mut first_without: Vec<Option<usize>> = vec![None; columns.len()];
    for (line, row) in rows {
        let mut fields: Vec<Option<String>> = vec![None; columns.len()];
        for (column, text) in row {
            fields[column] = Some(text);
        }
        for (field, first) in fields.iter().zip(&mut first_without) {
            if field.is_none() {
                first.get_or_insert(line);
            }
        }
        let fields: Vec<String> = fields.into_iter().map(Option::unwrap_or_default).collect();
        source.push(&fields).map_err(|cause| file(path, &cause))?;
    }
    let missing = first_without.into_iter().zip(columns).enumerate();
    let missing = missing.filter_map(|(column, (line, key))| Some(Missing { column, key, line: line? }));
    Ok((source, missing.collect()))
}

fn file(path: &Path, problem: &dyn std::fmt::Display) -> Error {
    Error::File { path: path.to_owned(), problem: problem.to_string() }
}

/// Nested objects become dotted keys; text stays as it is, lists and numbers become JSON, null is empty.
fn flatten(prefix: &str, value: &serde_json::Value, found: &mut impl FnMut(&str, String)) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&key, value, found);
            }
        }
        serde_json::Value::String(text) => found(prefix, text.clone()),
        serde_json::Value::Null => found(prefix, String::new()),
        other => found(prefix, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use taskq_client::Elements;

    use super::*;

    fn rows(source: Source) -> Vec<Vec<String>> {
        let elements = Elements::new().source(source);
        let row = |n| elements.row(n).expect("a row");
        let text = |field: &[u8]| String::from_utf8(field.to_vec()).expect("UTF-8");
        (0..elements.total().expect("total"))
            .map(|n| row(n).iter().map(|field| text(field)).collect())
            .collect()
    }

    fn columns(source: &Source) -> Vec<String> {
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
        assert_eq!(columns(&source), ["user", "city"]);
        assert_eq!(rows(source), [["ann", "a, b"], ["bob", "c"]]);
        assert!(csv_records(Path::new("f"), b"a,b\n1\n").is_err(), "a short record is refused");
        assert!(csv_records(Path::new("f"), b"").is_err(), "no header");
        assert!(csv_records(Path::new("f"), b"a\n\0\n").is_err(), "NUL");
    }

    #[test]
    fn json_keys_are_fields_also_nested_and_late_ones() {
        let text = br#"{"id": 1, "user": {"name": "ann"}}

{"id": 2, "tags": ["x"], "user": {"name": null}}"#;
        let (source, missing) = json_lines(Path::new("f"), text).expect("json");
        assert_eq!(columns(&source), ["id", "user.name", "tags"]);
        assert_eq!(rows(source), [["1", "ann", ""], ["2", "", "[\"x\"]"]]);
        let tags = Missing { column: 2, key: "tags".to_owned(), line: 1 };
        assert_eq!(missing, [tags], "null is there, and empty");
        for bad in ["[1]", "{", "1", "{}", "{\"a\":\"\\u0000\"}"] {
            assert!(json_lines(Path::new("f"), bad.as_bytes()).is_err(), "{bad:?} must be refused");
        }
    }
}

//! JSON lines: an object on each line, its keys the fields. Values reach the command as they are written: a number is not
//! read, so that none loses a digit.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use taskq_client::Source;

use super::Error;
use super::format::{Records, file};

/// Objects in objects; more is a mistake, and would not fit on the stack.
const DEPTH: usize = 100;

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
pub(super) fn json_lines(path: &Path, bytes: &[u8]) -> Result<Records<(Source, Vec<Missing>)>, Error> {
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    let mut columns: Vec<String> = Vec::new();
    let mut rows: Vec<(usize, Vec<(usize, String)>)> = Vec::new();
    for (n, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let bad = |problem: String| Error::Line { path: path.to_owned(), line: n + 1, problem };
        let value: &RawValue = serde_json::from_slice(line).map_err(|cause| {
            let column = cause.column();
            bad(format!("{} at column {column}", without_place(&cause)))
        })?;
        if !value.get().starts_with('{') {
            return Err(bad("is not a JSON object; its keys name the fields".to_owned()));
        }
        let mut row = Vec::new();
        let mut found = |key: &str, text| {
            let column = columns.iter().position(|known| known == key).unwrap_or(columns.len());
            if column == columns.len() {
                columns.push(key.to_owned());
            }
            row.push((column, text));
        };
        flatten("", value, 0, &mut found).map_err(bad)?;
        rows.push((n + 1, row));
    }
    if columns.is_empty() {
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
    Ok(Some((source, missing.collect())))
}

/// Nested objects become dotted keys; text is the text itself, null is empty, everything else stays as it is written.
fn flatten(
    prefix: &str,
    value: &RawValue,
    depth: usize,
    found: &mut impl FnMut(&str, String),
) -> Result<(), String> {
    let bad = |cause: serde_json::Error| match prefix {
        "" => without_place(&cause),
        key => format!("the value of {key:?}: {}", without_place(&cause)),
    };
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{') if depth == DEPTH => Err(format!("has more than {DEPTH} objects in each other")),
        Some(b'{') => {
            let Object(pairs) = serde_json::from_str(text).map_err(bad)?;
            for (key, value) in pairs {
                let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                flatten(&key, value, depth + 1, found)?;
            }
            Ok(())
        }
        Some(b'"') => {
            found(prefix, serde_json::from_str(text).map_err(bad)?);
            Ok(())
        }
        Some(b'n') => {
            found(prefix, String::new());
            Ok(())
        }
        _ => {
            found(prefix, text.to_owned());
            Ok(())
        }
    }
}

/// The words of an error without its line, which is always 1 here, and its column.
fn without_place(cause: &serde_json::Error) -> String {
    let (text, place) = (cause.to_string(), format!(" at line {} column {}", cause.line(), cause.column()));
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// An object whose values are not read yet.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Deserialize<'a> for Object<'a> {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Object<'a>, D::Error> {
        struct Pairs;
        impl<'a> Visitor<'a> for Pairs {
            type Value = Object<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Object<'a>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }
        from.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::tests::{columns, rows};
    use super::*;

    #[test]
    fn json_keys_are_fields_also_nested_and_late_ones() {
        let text = br#"{"id": 1, "user": {"name": "ann"}}

{"id": 2, "tags": ["x"], "user": {"name": null}}"#;
        let (source, missing) = json_lines(Path::new("f"), text).expect("json").expect("records");
        assert_eq!(columns(&source), ["id", "user.name", "tags"]);
        assert_eq!(rows(source), [["1", "ann", ""], ["2", "", "[\"x\"]"]]);
        let tags = Missing { column: 2, key: "tags".to_owned(), line: 1 };
        assert_eq!(missing, [tags], "null is there, and empty");
        for bad in ["[1]", "{", "1", "{}", "{\"a\":\"\\u0000\"}"] {
            assert!(json_lines(Path::new("f"), bad.as_bytes()).is_err(), "{bad:?} must be refused");
        }
        let error = json_lines(Path::new("f"), b"{\"a\":1}\n{\"a\":}\n").expect_err("bad").to_string();
        assert_eq!(error, "f, line 2: expected value at column 6");
    }

    #[test]
    fn numbers_are_what_was_written() {
        for number in ["18446744073709551616", "1.0", "1", "1e3", "-0", "0.10", "1E+400"] {
            let line = format!("{{\"n\":{number}, \"l\": [{number}]}}");
            let (source, _) = json_lines(Path::new("f"), line.as_bytes()).expect("json").expect("a record");
            assert_eq!(rows(source), [[number.to_owned(), format!("[{number}]")]]);
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_a_crash() {
        let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        let error = json_lines(Path::new("f"), deep.as_bytes()).expect_err("deep").to_string();
        assert!(error.starts_with("f, line 1: "), "{error}");
        let half = json_lines(Path::new("f"), br#"{"a": {"b": "\ud800"}}"#).expect_err("half a character");
        assert!(half.to_string().contains("the value of \"a.b\""), "{half}");
        assert!(json_lines(Path::new("f"), b"{\"a\":\"\xff\"}").is_err(), "not UTF-8");
    }
}

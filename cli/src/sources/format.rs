//! The file formats that elements come in: lines, NUL-terminated records, CSV, JSON lines.
//! Bytes in, rows out; who reads the file is `sources.rs`.

use std::path::Path;

use super::{Error, Source};

pub(super) fn lines(path: &Path, bytes: &[u8]) -> Result<Source, Error> {
    let mut fields = Vec::new();
    for (n, line) in bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n').enumerate() {
        if line.contains(&0) {
            let problem = "contains a NUL byte; are these records of `find -print0`? then use --each-null".to_owned();
            return Err(Error::Line { path: path.to_owned(), line: n + 1, problem });
        }
        fields.push(line.to_vec());
    }
    if bytes.is_empty() {
        fields.clear();
    }
    Ok(Source::Rows { columns: vec![], fields })
}

pub(super) fn records(bytes: &[u8]) -> Source {
    if bytes.is_empty() {
        return Source::Rows { columns: vec![], fields: vec![] };
    }
    let body = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    Source::Rows { columns: vec![], fields: body.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect() }
}

pub(super) fn csv_records(path: &Path, bytes: &[u8]) -> Result<Source, Error> {
    let fail = |cause: csv::Error| Error::File { path: path.to_owned(), problem: cause.to_string() };
    let mut reader = csv::Reader::from_reader(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    let columns: Vec<String> = reader.headers().map_err(fail)?.iter().map(str::to_owned).collect();
    if columns.is_empty() {
        let problem = "has no header line that names its columns".to_owned();
        return Err(Error::File { path: path.to_owned(), problem });
    }
    let mut fields = Vec::new();
    for record in reader.byte_records() {
        let record = record.map_err(fail)?;
        if record.iter().any(|field| field.contains(&0)) {
            let line = record.position().map_or(0, csv::Position::line) as usize;
            return Err(Error::Line { path: path.to_owned(), line, problem: "contains a NUL byte".to_owned() });
        }
        fields.extend(record.iter().map(<[u8]>::to_vec));
    }
    Ok(Source::Rows { columns, fields })
}

pub(super) fn json_lines(path: &Path, bytes: &[u8]) -> Result<Source, Error> {
    let mut columns: Vec<String> = Vec::new();
    let mut rows: Vec<Vec<(usize, String)>> = Vec::new();
    for (n, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let bad = |problem: String| Error::Line { path: path.to_owned(), line: n + 1, problem };
        let value: serde_json::Value = serde_json::from_slice(line).map_err(|cause| bad(cause.to_string()))?;
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
        if row.iter().any(|(_, text)| text.contains('\0')) {
            return Err(bad("contains a NUL character, which no command can receive".to_owned()));
        }
        rows.push(row);
    }
    if columns.is_empty() && !rows.is_empty() {
        return Err(Error::File { path: path.to_owned(), problem: "its objects have no keys".to_owned() });
    }
    let mut fields = vec![Vec::new(); rows.len() * columns.len()];
    for (n, row) in rows.into_iter().enumerate() {
        for (column, text) in row {
            fields[n * columns.len() + column] = text.into_bytes();
        }
    }
    Ok(Source::Rows { columns, fields })
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
    use super::*;

    fn rows(source: &Source) -> Vec<Vec<String>> {
        let text = |field: Vec<u8>| String::from_utf8(field).expect("UTF-8");
        (0..source.count()).map(|n| source.row(n).into_iter().map(text).collect()).collect()
    }

    #[test]
    fn lines_and_records_keep_empty_ones_but_the_last() {
        let path = Path::new("f");
        assert_eq!(rows(&lines(path, b"a\n\nb\n").expect("lines")), [["a"], [""], ["b"]]);
        assert_eq!(rows(&lines(path, b"a\nb").expect("lines")), [["a"], ["b"]]);
        assert_eq!(lines(path, b"").expect("lines").count(), 0);
        assert_eq!(rows(&records(b"a\nb\0c\0")), [["a\nb"], ["c"]]);
        assert_eq!(records(b"").count(), 0);
        let error = lines(path, b"a\nb\0c").expect_err("NUL").to_string();
        assert!(error.starts_with("f, line 2:") && error.contains("--each-null"), "{error}");
    }

    #[test]
    fn a_csv_header_names_the_fields() {
        let source = csv_records(Path::new("f"), b"\xef\xbb\xbfuser,city\nann,\"a, b\"\nbob,c\n").expect("csv");
        assert_eq!(source.columns(), ["user", "city"]);
        assert_eq!(rows(&source), [["ann", "a, b"], ["bob", "c"]]);
        assert!(csv_records(Path::new("f"), b"a,b\n1\n").is_err(), "a short record is refused");
        assert!(csv_records(Path::new("f"), b"").is_err(), "no header");
        assert!(csv_records(Path::new("f"), b"a\n\0\n").is_err(), "NUL");
    }

    #[test]
    fn json_keys_are_fields_also_nested_and_late_ones() {
        let text = br#"{"id": 1, "user": {"name": "ann"}}

{"id": 2, "tags": ["x"], "user": {"name": null}}"#;
        let source = json_lines(Path::new("f"), text).expect("json");
        assert_eq!(source.columns(), ["id", "user.name", "tags"]);
        assert_eq!(rows(&source), [["1", "ann", ""], ["2", "", "[\"x\"]"]]);
        for bad in ["[1]", "{", "1", "{}", "{\"a\":\"\\u0000\"}"] {
            assert!(json_lines(Path::new("f"), bad.as_bytes()).is_err(), "{bad:?} must be refused");
        }
    }
}

//! What calls take and return, as it is written on a command line and printed: JSON, text, or bytes as they are.

use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use taskq_client::Codec;
use taskq_client::model::Task;

use crate::captured::Bytes;

/// The codec of what is no JSON.
pub(crate) fn is_json(codec: &str) -> bool {
    codec.parse() == Ok(Codec::Json)
}

/// Why a text is not JSON; `None` if it is.
pub(crate) fn not_json(text: &[u8]) -> Option<serde_json::Error> {
    serde_json::from_slice::<IgnoredAny>(text).err()
}

/// A word as JSON: itself if it is some, and else as text. `None` if it is not even that.
pub(crate) fn json_or_text(word: &[u8]) -> Option<Vec<u8>> {
    if not_json(word).is_none() {
        return Some(word.trim_ascii().to_vec());
    }
    let text = std::str::from_utf8(word).ok()?;
    Some(serde_json::Value::from(text).to_string().into_bytes())
}

/// What is wrong with a value that is to be JSON, as a sentence for people; `None` if it is as it should be, or anything
/// is allowed.
pub(crate) fn problem(codec: &str, task: &Task, value: &[u8]) -> Option<String> {
    let problem = not_json(value).filter(|_| is_json(codec))?;
    let (job, index) = (task.job_id, task.index);
    Some(format!(
        "the value of task {job}.{index} should be JSON and is not ({problem}): it is printed as it is; mend what the \
         function returns"
    ))
}

/// A value on its way to standard output: JSON as one line, everything else as it is.
pub(crate) fn printed(codec: &str, value: &[u8]) -> Vec<u8> {
    if !is_json(codec) {
        return value.to_vec();
    }
    let mut line = if not_json(value).is_none() { one_line(value) } else { value.to_vec() };
    line.push(b'\n');
    line
}

/// Valid JSON without white space outside of its texts: no number is read, so that none loses a digit.
fn one_line(json: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(json.len() + 1);
    let (mut in_text, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            b' ' | b'\t' | b'\n' | b'\r' if !in_text => continue,
            _ => {}
        }
        line.push(*byte);
    }
    line
}

/// A value in a document: itself if it is JSON.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Json(Box<RawValue>),
    Bytes(Bytes),
}

impl Value {
    pub(crate) fn new(codec: &str, value: &[u8]) -> Value {
        let json = is_json(codec).then(|| serde_json::from_slice::<&RawValue>(value).ok()).flatten();
        match json {
            Some(json) => Value::Json(json.to_owned()),
            None => Value::Bytes(value.to_vec().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_printed_in_one_line_with_every_digit() {
        let line =
            |codec: &str, value: &str| String::from_utf8(printed(codec, value.as_bytes())).expect("text");
        assert_eq!(
            line("json", "{\n  \"a b\": [1, 100000000000000000000001],\n \"c\\\" \\\\\" : \" d\" }"),
            "{\"a b\":[1,100000000000000000000001],\"c\\\" \\\\\":\" d\"}\n"
        );
        assert_eq!(line("", "null"), "null\n", "JSON is the default");
        assert_eq!(line("json", "a \n b"), "a \n b\n", "what is no JSON is shown as it is");
        assert_eq!(line("raw", "a \n b"), "a \n b");
    }

    #[test]
    fn what_should_be_json_and_is_not_is_told() {
        let task = Task { job_id: 7, index: 2, ..Task::default() };
        let told = problem("json", &task, b"a \n b").expect("no JSON");
        assert!(
            told.starts_with("the value of task 7.2 should be JSON and is not (expected value"),
            "{told}"
        );
        assert_eq!((problem("json", &task, b" [1] "), problem("raw", &task, b"a")), (None, None));
    }

    #[test]
    fn words_are_json_if_they_can_be() {
        let json = |word: &[u8]| json_or_text(word).map(|json| String::from_utf8(json).expect("text"));
        assert_eq!(json(b" 30 ").as_deref(), Some("30"));
        assert_eq!(json(b"a.jpg").as_deref(), Some("\"a.jpg\""));
        assert_eq!(json(b"007").as_deref(), Some("\"007\""));
        assert_eq!(json(b"\"7\"").as_deref(), Some("\"7\""));
        assert_eq!(json(b"").as_deref(), Some("\"\""));
        assert_eq!(json(b"\xff"), None);
    }

    #[test]
    fn a_document_holds_json_as_it_is_and_other_bytes_as_text() {
        let shown =
            |codec: &str, value: &[u8]| serde_json::to_string(&Value::new(codec, value)).expect("JSON");
        assert_eq!(shown("json", b"{\"a\":1}"), "{\"a\":1}");
        assert_eq!(shown("raw", b"{}"), "\"{}\"");
        assert_eq!(shown("msgpack", b"\xff"), "{\"base64\":\"/w==\"}");
    }
}

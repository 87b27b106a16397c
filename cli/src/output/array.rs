//! A JSON document around an array that is written as its elements come, so that it may be longer than memory.

use std::io::{self, Write};

use serde::Serialize;

use super::key_of;

/// `{"schema": "taskq.v1.logs", "logs": [...]}`, laid out like every other document.
#[derive(Debug)]
pub(crate) struct Array {
    schema: &'static str,
    elements: u64,
}

impl Array {
    /// Nothing is written yet. The last word of the schema is also the key of the elements.
    pub(crate) fn new(schema: &'static str) -> Array {
        Array { schema, elements: 0 }
    }

    /// One more element.
    pub(crate) fn element(&mut self, to: &mut impl Write, element: &impl Serialize) -> io::Result<()> {
        match self.elements {
            0 => self.begin(to)?,
            _ => to.write_all(b",")?,
        }
        self.elements += 1;
        // No string of JSON has a line end in it, so that each is one of the layout.
        let element = serde_json::to_string_pretty(element)?.replace('\n', "\n    ");
        to.write_all(b"\n    ")?;
        to.write_all(element.as_bytes())
    }

    /// After the last element, or without one.
    pub(crate) fn end(self, to: &mut impl Write) -> io::Result<()> {
        match self.elements {
            0 => self.begin(to).and_then(|()| to.write_all(b"]\n}\n")),
            _ => to.write_all(b"\n  ]\n}\n"),
        }
    }

    fn begin(&self, to: &mut impl Write) -> io::Result<()> {
        write!(to, "{{\n  \"schema\": \"{}\",\n  \"{}\": [", self.schema, key_of(self.schema))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn written(elements: &[Value]) -> String {
        let (mut to, mut array) = (Vec::new(), Array::new("taskq.v1.logs"));
        for element in elements {
            let before = to.len();
            array.element(&mut to, element).expect("a vector takes all");
            assert!(to.len() > before, "written as it comes");
        }
        array.end(&mut to).expect("a vector takes all");
        String::from_utf8(to).expect("text")
    }

    #[test]
    fn it_is_laid_out_like_a_document_that_is_written_at_once() {
        let elements = [json!({"a": "x\ny", "b": [1, 2]}), json!({"c": {}})];
        for elements in [&elements[..0], &elements[..1], &elements[..]] {
            let whole = json!({"logs": elements, "schema": "taskq.v1.logs"});
            let text = written(elements);
            assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), whole);
            assert!(text.starts_with("{\n  \"schema\": \"taskq.v1.logs\",\n  \"logs\": ["), "{text}");
            let lines = serde_json::to_string_pretty(&whole).expect("JSON").lines().count();
            assert_eq!(text.lines().count(), lines, "{text}");
        }
    }
}

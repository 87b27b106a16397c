//! The elements of a job: sources of values, and how they combine. Values are kept in the form in which they
//! travel, so that ten million lines cost little more than their bytes.

use crate::error::{Error, Result};
use crate::job::INLINE_BYTES;
use crate::model;
use bytes::{Buf, Bytes};
use prost::encoding::{decode_varint, encode_varint};
use taskq_template::elements::Plan;

/// Every so many rows their place is noted, so that a row is found without reading all before it.
const ROWS_PER_MARK: u64 = 64;
/// The longest argument that is an element; the coordinator has the same limit.
const ARGUMENT_BYTES: usize = 1 << 20;
/// Field 1 of a `Table` message, with a length.
const FIELD_TAG: u8 = 0x0a;

/// One source of values.
#[derive(Debug, Clone)]
pub struct Source {
    columns: Vec<String>,
    values: Values,
    /// Arguments of calls, which may be any bytes; fields of commands may not.
    encoded: bool,
}

#[derive(Debug, Clone)]
enum Values {
    Range { start: u64, step: u64, count: u32 },
    Table { encoded: Vec<u8>, marks: Vec<u64>, rows: u64, value_bytes: usize },
}

impl Source {
    /// Values of one column without a name.
    #[must_use]
    pub fn items() -> Self {
        Self::columns(Vec::<String>::new())
    }

    /// Rows of several columns, or of one with a name.
    #[must_use]
    pub fn columns(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let columns = names.into_iter().map(Into::into).collect();
        Self {
            columns,
            values: Values::Table { encoded: Vec::new(), marks: Vec::new(), rows: 0, value_bytes: 0 },
            encoded: false,
        }
    }

    /// Arguments of a call, one a row, written in the call's codec: any bytes.
    #[must_use]
    pub fn arguments() -> Self {
        Self { encoded: true, ..Self::items() }
    }

    /// Whether this is for calls only.
    pub(crate) fn is_encoded(&self) -> bool {
        self.encoded
    }

    /// The numbers `start`, `start + step`, ...: `count` of them.
    #[must_use]
    pub fn range(start: u64, step: u64, count: u32) -> Self {
        Self { columns: Vec::new(), values: Values::Range { start, step, count }, encoded: false }
    }

    /// Gives the one column a name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.columns = vec![name.into()];
        self
    }

    /// Adds a row.
    ///
    /// # Errors
    /// It has another number of fields than there are columns, or a NUL byte in one; or it is
    /// an argument of more than 1 MiB; or this is a range.
    pub fn push(&mut self, row: &[impl AsRef<[u8]>]) -> Result<()> {
        let wanted = self.width();
        let any_bytes = self.encoded;
        let Values::Table { encoded, marks, rows, value_bytes } = &mut self.values else {
            return Err(Error::Usage("a range of numbers takes no further rows".into()));
        };
        let number = *rows + 1;
        if row.len() != wanted {
            let len = row.len();
            return Err(Error::Usage(format!(
                "row {number} has {len} fields, but there are {wanted} columns"
            )));
        }
        let row_bytes: usize = row.iter().map(|field| field.as_ref().len()).sum();
        if any_bytes && row_bytes > ARGUMENT_BYTES {
            return Err(Error::Usage(format!(
                "argument {number} has {row_bytes} bytes, and an element may have {} MiB; call the function once for \
                 such an argument, which may have {} MiB, or pass where its bytes are",
                ARGUMENT_BYTES >> 20,
                taskq_proto::VALUE_BYTES >> 20,
            )));
        }
        if !any_bytes && row.iter().any(|field| field.as_ref().contains(&0)) {
            return Err(Error::Usage(format!(
                "row {number} has a NUL byte, which no program can be given; use the NUL-separated form if it was meant to separate"
            )));
        }
        if rows.is_multiple_of(ROWS_PER_MARK) {
            marks.push(encoded.len() as u64);
        }
        for field in row {
            let field = field.as_ref();
            encoded.push(FIELD_TAG);
            encode_varint(field.len() as u64, encoded);
            encoded.extend_from_slice(field);
            *value_bytes += field.len();
        }
        *rows = number;
        Ok(())
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.values {
            Values::Range { count, .. } => u64::from(*count),
            Values::Table { rows, .. } => *rows,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fields of a row.
    fn width(&self) -> usize {
        self.columns.len().max(1)
    }

    /// The fields of row `number`, which must exist.
    fn row(&self, number: u64) -> Vec<Bytes> {
        match &self.values {
            Values::Range { start, step, .. } => vec![(start + number * (*step).max(1)).to_string().into()],
            Values::Table { encoded, marks, .. } => {
                let mark = usize::try_from(number / ROWS_PER_MARK).expect("as many marks as fit in memory");
                let from = usize::try_from(marks[mark]).expect("a place in memory");
                let skip = usize::try_from(number % ROWS_PER_MARK).expect("below 64") * self.width();
                fields(&encoded[from..]).skip(skip).take(self.width()).map(Bytes::copy_from_slice).collect()
            }
        }
    }

    fn check(&self) -> Result<()> {
        if let Values::Range { start, step, count } = self.values {
            let last = step.max(1).checked_mul(u64::from(count.saturating_sub(1)));
            if self.columns.len() > 1 || last.and_then(|last| start.checked_add(last)).is_none() {
                return Err(Error::Usage(format!(
                    "the range from {start} by {step} ends beyond 2^64-1, or has several names"
                )));
            }
        }
        Ok(())
    }

    /// The source as it travels, and what has to be uploaded for it: an encoded `Table`.
    pub(crate) fn into_wire(self) -> (model::Source, Option<Bytes>) {
        let columns = self.columns;
        match self.values {
            Values::Range { start, step, count } => {
                let values = Some(model::source::Values::Range(model::Range { start, step, count }));
                (model::Source { columns, values }, None)
            }
            Values::Table { encoded, value_bytes, .. }
                if value_bytes <= INLINE_BYTES && encoded.len() <= 2 * INLINE_BYTES =>
            {
                let fields = fields(&encoded).map(Bytes::copy_from_slice).collect();
                let values = Some(model::source::Values::Table(model::Table { fields }));
                (model::Source { columns, values }, None)
            }
            Values::Table { encoded, .. } => (model::Source { columns, values: None }, Some(encoded.into())),
        }
    }
}

/// Walks the fields of an encoded table of our own making.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        rest.advance(1);
        let len = decode_varint(&mut rest).expect("a length that push wrote");
        let (field, after) = rest.split_at(usize::try_from(len).expect("a length in memory"));
        rest = after;
        Some(field)
    })
}

/// What a job's command is run for. Several sources make a product, the last varying fastest, unless zipped.
#[derive(Debug, Clone, Default)]
pub struct Elements {
    sources: Vec<Source>,
    zip: bool,
    /// Of the chained calls; told by the checks.
    problem: Option<Error>,
}

impl Elements {
    /// No source: one task without values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source.
    #[must_use]
    pub fn source(mut self, source: Source) -> Self {
        self.sources.push(source);
        self
    }

    /// Adds a source of numbers.
    #[must_use]
    pub fn range(self, start: u64, step: u64, count: u32) -> Self {
        self.source(Source::range(start, step, count))
    }

    /// Adds a source of values without a name.
    #[must_use]
    pub fn items(mut self, items: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let mut source = Source::items();
        for item in items {
            if let Err(problem) = source.push(&[item]) {
                self.problem.get_or_insert(problem);
            }
        }
        self.source(source)
    }

    /// Adds a source of arguments for a call, written in the call's codec.
    #[must_use]
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let mut source = Source::arguments();
        for argument in arguments {
            if let Err(problem) = source.push(&[argument]) {
                self.problem.get_or_insert(problem);
            }
        }
        self.source(source)
    }

    /// Combines the sources side by side; they must be equally long.
    #[must_use]
    pub fn zip(mut self) -> Self {
        self.zip = true;
        self
    }

    /// Whether there is no source.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Names of the fields that each element has, `""` for a nameless one.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let mut columns = Vec::new();
        for source in &self.sources {
            if source.columns.is_empty() {
                columns.push(String::new());
            }
            columns.extend(source.columns.iter().cloned());
        }
        columns
    }

    /// How the sources combine.
    ///
    /// # Errors
    /// They are too many or of unequal length, or one of them is wrong in itself.
    pub fn plan(&self) -> Result<Plan> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        for source in &self.sources {
            source.check()?;
        }
        let lens: Vec<u64> = self.sources.iter().map(Source::len).collect();
        Plan::new(&lens, self.zip).map_err(|error| Error::Usage(error.to_string()))
    }

    /// How many elements there are.
    ///
    /// # Errors
    /// As for [`Elements::plan`].
    pub fn total(&self) -> Result<u32> {
        Ok(self.plan()?.total())
    }

    /// The fields of element `i`.
    ///
    /// # Errors
    /// There is no such element, or as for [`Elements::plan`].
    pub fn row(&self, i: u32) -> Result<Vec<Bytes>> {
        let plan = self.plan()?;
        if i >= plan.total() {
            return Err(Error::Usage(format!("there is no element {i}; there are {}, from 0", plan.total())));
        }
        Ok(self.sources.iter().zip(plan.rows(i)).flat_map(|(source, row)| source.row(row)).collect())
    }

    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub(crate) fn into_parts(self) -> (Vec<Source>, bool) {
        (self.sources, self.zip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn rows_of_a_product() {
        let mut table = Source::columns(["file", "size"]);
        for i in 0..200 {
            table.push(&[format!("f{i}"), "x".repeat(i)]).unwrap();
        }
        let elements = Elements::new().source(table).range(10, 5, 3);
        assert_eq!(elements.columns(), ["file", "size", ""]);
        assert_eq!(elements.total().unwrap(), 600);
        assert_eq!(elements.row(599).unwrap(), [Bytes::from("f199"), "x".repeat(199).into(), "20".into()]);
        assert_eq!(elements.row(192).unwrap(), [Bytes::from("f64"), "x".repeat(64).into(), "10".into()]);
        assert_eq!(elements.row(600).unwrap_err().kind(), crate::Kind::Usage);
    }

    #[test]
    fn large_tables_are_uploaded_as_the_message_they_are() {
        let mut small = Source::items();
        small.push(&["a"]).unwrap();
        assert!(small.into_wire().1.is_none());
        let mut large = Source::items();
        let values: Vec<String> = (0..20_000).map(|i| format!("line {i}")).collect();
        for value in &values {
            large.push(&[value]).unwrap();
        }
        let (wire, upload) = large.into_wire();
        assert!(wire.values.is_none());
        let table = model::Table::decode(upload.unwrap()).unwrap();
        assert!(table.fields.iter().zip(&values).all(|(field, value)| field == value.as_bytes()));
        assert_eq!(table.fields.len(), values.len());
    }

    #[test]
    fn arguments_may_be_any_bytes_up_to_a_mebibyte() {
        let elements = Elements::new().arguments([b"\0\xff".as_slice(), b""]);
        assert_eq!(elements.row(0).unwrap(), [Bytes::from_static(b"\0\xff")]);
        assert_eq!(elements.row(1).unwrap(), [Bytes::new()]);
        assert!(Source::arguments().push(&[vec![0; ARGUMENT_BYTES]]).is_ok());
        let long = Elements::new().arguments(["1".as_bytes(), &vec![0; ARGUMENT_BYTES + 1]]);
        let problem = long.total().unwrap_err().to_string();
        assert!(problem.contains("argument 2 has 1048577 bytes") && problem.contains("256 MiB"), "{problem}");
    }

    #[test]
    fn mistakes_are_told() {
        assert!(Elements::new().items(["a\0b"]).total().unwrap_err().to_string().contains("NUL"));
        assert!(Source::columns(["a", "b"]).push(&["1"]).unwrap_err().to_string().contains("2 columns"));
        assert!(Elements::new().range(u64::MAX, 1, 2).total().is_err());
        assert!(Elements::new().range(0, 1, 2).items(["a"]).zip().total().is_err());
        assert_eq!(
            Elements::new().range(u64::MAX, 0, 1).row(0).unwrap(),
            [Bytes::from(u64::MAX.to_string())]
        );
    }
}

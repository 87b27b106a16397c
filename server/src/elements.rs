//! The values of a job's elements: from `pb::Elements` to the row of element number i.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use taskq_proto::v1::{self as pb, source::Values};
use taskq_template::elements::Plan;

/// Elements whose blobs have been read.
#[derive(Clone, Debug)]
pub struct Elements {
    plan: Plan,
    sources: Vec<Source>,
    /// One name per field of a row, "" where it has none.
    pub columns: Vec<String>,
}

#[derive(Clone, Debug)]
enum Source {
    Range { start: u64, step: u64 },
    Table { fields: Arc<[Bytes]>, width: usize },
}

/// Why elements make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A source has no values, or says neither range, table nor blob.
    #[error("source {0} has no values; give at least one")]
    Empty(usize),
    /// The fields of a table do not fill its rows.
    #[error("source {place} has {fields} fields, which does not divide into rows of {width} columns")]
    Ragged {
        /// Which source, from 1.
        place: usize,
        /// Fields.
        fields: usize,
        /// Columns.
        width: usize,
    },
    /// A range goes beyond 64 bits.
    #[error("source {0} counts beyond 2^64")]
    Overflow(usize),
    /// A blob is unknown.
    #[error("source {0} names a blob that is not here; upload it first")]
    NoBlob(usize),
    /// A blob is no table.
    #[error("source {0} names a blob that is not an encoded Table")]
    NotTable(usize),
    /// A row is too long.
    #[error("an element has {0} bytes; at most {ROW_BYTES}: put long values into files and name those")]
    LongRow(usize),
    /// The sources do not fit together, or are too many.
    #[error(transparent)]
    Plan(#[from] taskq_template::elements::Error),
}

/// Fields of one element, of one source: arguments of a program, which may be a good deal shorter.
const ROW_BYTES: usize = 1 << 20;

impl Elements {
    /// Reads sources; `blob` gives the bytes of an uploaded one. `None` for a job without sources.
    ///
    /// # Errors
    /// If a source is empty, ragged or unknown, or there are more than 2^32 - 1 elements.
    pub fn read(
        elements: &pb::Elements,
        blob: &dyn Fn(&pb::Blob) -> Option<Bytes>,
    ) -> Result<Option<Elements>, Error> {
        if elements.sources.is_empty() {
            return Ok(None);
        }
        let mut lens = Vec::new();
        let mut sources = Vec::new();
        let mut columns = Vec::new();
        for (at, source) in elements.sources.iter().enumerate() {
            let (len, values) = read(at + 1, source, blob)?;
            lens.push(len);
            sources.push(values);
            match source.columns.as_slice() {
                [] => columns.push(String::new()),
                names => columns.extend_from_slice(names),
            }
        }
        Ok(Some(Elements { plan: Plan::new(&lens, elements.zip)?, sources, columns }))
    }

    /// How many elements there are.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.plan.total()
    }

    /// About what they take of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |source: &Source| match source {
            Source::Range { .. } => 0,
            Source::Table { fields, .. } => fields.iter().map(|field| size_of::<Bytes>() + field.len()).sum(),
        };
        self.sources.iter().map(of).sum()
    }

    /// If a worker can count by itself: the only source is a range.
    #[must_use]
    pub fn range(&self) -> Option<pb::Range> {
        match self.sources.as_slice() {
            [Source::Range { start, step }] => {
                Some(pb::Range { start: *start, step: *step, count: self.total() })
            }
            _ => None,
        }
    }

    /// The fields of element `index`, which must be below `total`.
    #[must_use]
    pub fn row(&self, index: u32) -> pb::Row {
        let mut fields = Vec::with_capacity(self.columns.len());
        for (source, at) in self.sources.iter().zip(self.plan.rows(index)) {
            match source {
                Source::Range { start, step } => fields.push((start + step * at).to_string().into()),
                Source::Table { fields: table, width } => {
                    let first = usize::try_from(at).expect("a row number of a table in memory") * width;
                    fields.extend_from_slice(&table[first..first + width]);
                }
            }
        }
        pb::Row { fields }
    }
}

fn read(
    place: usize,
    source: &pb::Source,
    blob: &dyn Fn(&pb::Blob) -> Option<Bytes>,
) -> Result<(u64, Source), Error> {
    let width = source.columns.len().max(1);
    match &source.values {
        None => Err(Error::Empty(place)),
        Some(Values::Range(range)) => {
            let step = range.step.max(1);
            let last = u64::from(range.count).checked_sub(1).ok_or(Error::Empty(place))?;
            let end = step.checked_mul(last).and_then(|span| range.start.checked_add(span));
            end.ok_or(Error::Overflow(place))?;
            if width > 1 {
                return Err(Error::Ragged { place, fields: 1, width });
            }
            Ok((range.count.into(), Source::Range { start: range.start, step }))
        }
        Some(Values::Table(table)) => rows(place, table.clone(), width),
        Some(Values::Blob(named)) => {
            let bytes = blob(named).ok_or(Error::NoBlob(place))?;
            let table = pb::Table::decode(bytes).map_err(|_| Error::NotTable(place))?;
            rows(place, table, width)
        }
    }
}

fn rows(place: usize, table: pb::Table, width: usize) -> Result<(u64, Source), Error> {
    let fields: Arc<[Bytes]> = table.fields.into();
    if fields.is_empty() {
        return Err(Error::Empty(place));
    }
    if !fields.len().is_multiple_of(width) {
        return Err(Error::Ragged { place, fields: fields.len(), width });
    }
    let size = |row: &[Bytes]| row.iter().map(Bytes::len).sum::<usize>();
    match fields.chunks(width).map(size).max() {
        Some(bytes) if bytes > ROW_BYTES => Err(Error::LongRow(bytes)),
        Some(_) | None => Ok(((fields.len() / width) as u64, Source::Table { fields, width })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[&str], fields: &[&str]) -> pb::Source {
        pb::Source {
            columns: columns.iter().map(ToString::to_string).collect(),
            values: Some(Values::Table(pb::Table {
                fields: fields.iter().map(|field| Bytes::copy_from_slice(field.as_bytes())).collect(),
            })),
        }
    }

    fn range(start: u64, step: u64, count: u32) -> pb::Source {
        pb::Source { columns: vec![], values: Some(Values::Range(pb::Range { start, step, count })) }
    }

    fn read(sources: Vec<pb::Source>, zip: bool) -> Result<Option<Elements>, Error> {
        Elements::read(&pb::Elements { sources, zip, only: vec![] }, &|_| None)
    }

    #[test]
    fn the_last_source_of_a_product_varies_fastest() {
        let elements = read(vec![table(&["a", "b"], &["x", "1", "y", "2"]), range(7, 3, 2)], false);
        let elements = elements.unwrap().unwrap();
        assert_eq!(elements.total(), 4);
        assert_eq!(elements.columns, ["a", "b", ""]);
        assert_eq!(elements.row(1).fields, ["x", "1", "10"].map(Bytes::from));
        assert_eq!(elements.row(2).fields, ["y", "2", "7"].map(Bytes::from));
        assert_eq!(elements.range(), None);
    }

    #[test]
    fn one_range_needs_no_rows() {
        let elements = read(vec![range(1, 0, 5)], false).unwrap().unwrap();
        assert_eq!(elements.range(), Some(pb::Range { start: 1, step: 1, count: 5 }));
    }

    #[test]
    fn sources_that_make_no_sense_are_refused() {
        assert_eq!(read(vec![range(1, 1, 0)], false).unwrap_err(), Error::Empty(1));
        assert_eq!(read(vec![range(2, u64::MAX, 2)], false).unwrap_err(), Error::Overflow(1));
        let ragged = Error::Ragged { place: 1, fields: 3, width: 2 };
        assert_eq!(read(vec![table(&["a", "b"], &["1", "2", "3"])], false).unwrap_err(), ragged);
        assert!(read(vec![range(1, 1, 2), range(1, 1, 3)], true).is_err());
        assert!(read(vec![range(1, 1, u32::MAX), range(1, 1, 2)], false).is_err());
        assert!(read(vec![], true).unwrap().is_none());
    }
}

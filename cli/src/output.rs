//! What a command prints: a view, shown as a table on a terminal, as tab-separated lines in a pipe, or as
//! versioned JSON. Standard output carries data only; talk goes to standard error through `Context::say`.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::exit::{Exit, Failure};
use crate::screen::Screen;
use crate::text;

mod array;

pub(crate) use array::Array;

/// How data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns that fit the terminal
    Table,
    /// Tab-separated lines with a header
    Tsv,
    /// One JSON document with a versioned `schema`
    Json,
    /// One JSON document per line
    Jsonl,
    /// The ids only, one per line
    Id,
}

impl Format {
    /// True if the reader is a program that wants JSON.
    pub(crate) fn is_json(self) -> bool {
        match self {
            Format::Json | Format::Jsonl => true,
            Format::Table | Format::Tsv | Format::Id => false,
        }
    }
}

/// A list of rows that knows how to show itself.
pub(crate) trait View: Serialize {
    /// The name of the whole in JSON, as in `taskq.v1.jobs`; the last word is also the key of the rows.
    const SCHEMA: &'static str;
    /// The columns of the table, in order.
    const COLUMNS: &'static [Column];
    /// One row of the table, as many cells as there are columns.
    fn cells(&self) -> Vec<String>;
    /// What `-o id` prints for this row.
    fn id(&self) -> String;
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// Numbers are aligned to the right.
    pub(crate) right: bool,
    /// Cut to fit a narrow terminal, instead of kept whole.
    pub(crate) shrinks: bool,
    /// The highest leave first when the terminal is too narrow; 0 always stays.
    pub(crate) expendable: u8,
}

impl Column {
    /// A column of text that is kept whole.
    pub(crate) const fn text(title: &'static str, expendable: u8) -> Column {
        Column { title, right: false, shrinks: false, expendable }
    }

    /// A column of numbers.
    pub(crate) const fn number(title: &'static str, expendable: u8) -> Column {
        Column { title, right: true, shrinks: false, expendable }
    }

    /// A column of text that may be cut.
    pub(crate) const fn flexible(title: &'static str, expendable: u8) -> Column {
        Column { title, right: false, shrinks: true, expendable }
    }
}

/// No column is cut below this width.
const NARROWEST: usize = 6;

/// Prints all rows; an empty list still prints its header on a terminal, and an empty array as JSON.
pub(crate) fn rows<V: View>(screen: &Screen, rows: &[V]) -> anyhow::Result<()> {
    let mut out = Out::new();
    let written = match screen.format {
        Format::Json => {
            let mut document = Map::new();
            document.insert("schema".to_owned(), V::SCHEMA.into());
            document.insert(key_of(V::SCHEMA).to_owned(), serde_json::to_value(rows)?);
            out.json(&Value::Object(document), true)
        }
        Format::Jsonl => rows.iter().try_for_each(|row| out.record(V::SCHEMA, row)),
        Format::Id => rows.iter().try_for_each(|row| out.line(&row.id())),
        Format::Tsv => tsv(&mut out, screen, V::COLUMNS, rows.iter().map(View::cells)),
        Format::Table => table(&mut out, screen, V::COLUMNS, rows.iter().map(View::cells).collect()),
    };
    written.and_then(|()| out.flush()).map_err(|cause| stdout_failed(&cause))
}

/// Prints one thing in full: `lines` for people, the value itself as JSON.
pub(crate) fn one(
    screen: &Screen,
    schema: &str,
    value: &impl Serialize,
    lines: &[String],
) -> anyhow::Result<()> {
    let mut out = Out::new();
    let written = match screen.format {
        Format::Json => out.json(&versioned(schema, value)?, true),
        Format::Jsonl => out.json(&versioned(schema, value)?, false),
        Format::Table | Format::Tsv | Format::Id => lines.iter().try_for_each(|line| out.line(line)),
    };
    written.and_then(|()| out.flush()).map_err(|cause| stdout_failed(&cause))
}

/// The `schema` first, then the fields of the value.
fn versioned(schema: &str, value: &impl Serialize) -> anyhow::Result<Value> {
    let mut document = Map::new();
    document.insert("schema".to_owned(), schema.into());
    if let Value::Object(fields) = serde_json::to_value(value)? {
        document.extend(fields);
    }
    Ok(Value::Object(document))
}

fn key_of(schema: &str) -> &str {
    schema.rsplit('.').next().unwrap_or(schema)
}

/// If standard output was closed from the start, makes writing to it fail: std would lose what is written.
pub(crate) fn refuse_closed_stdout() {
    if taskq_worker::stdout_was_closed()
        && let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full")
    {
        // It stays as std left it then.
        let _ = rustix::stdio::dup2_stdout(full);
    }
}

/// The error for a standard output that does not take what is written.
pub(crate) fn stdout_failed(cause: &io::Error) -> anyhow::Error {
    if taskq_worker::stdout_was_closed() {
        return Failure::because(Exit::InputOutput, "cannot write to standard output: it is closed");
    }
    match cause.kind() {
        io::ErrorKind::BrokenPipe => Failure::because(Exit::ClosedPipe, "standard output was closed"),
        _ => Failure::io("cannot write to standard output", cause),
    }
}

fn tsv(
    out: &mut Out,
    screen: &Screen,
    columns: &[Column],
    rows: impl Iterator<Item = Vec<String>>,
) -> io::Result<()> {
    if screen.headers {
        out.line(&columns.iter().map(|column| column.title).collect::<Vec<_>>().join("\t"))?;
    }
    for cells in rows {
        // Tabs and line ends inside a cell are escaped, so that a line is a row and a tab a border.
        out.line(&cells.iter().map(|cell| text::visible(cell)).collect::<Vec<_>>().join("\t"))?;
    }
    Ok(())
}

fn table(out: &mut Out, screen: &Screen, columns: &[Column], rows: Vec<Vec<String>>) -> io::Result<()> {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|cells| cells.iter().map(|cell| text::visible(cell).into_owned()).collect())
        .collect();
    let natural: Vec<usize> = (0..columns.len())
        .map(|n| {
            rows.iter().map(|cells| text::width(&cells[n])).chain([columns[n].title.len()]).max().unwrap_or(0)
        })
        .collect();
    let paint = |title: &str, cell: String| if title == "STATE" { screen.paint.state(&cell) } else { cell };
    let Some(layout) = layout(columns, &natural, screen.columns) else {
        return upright(out, screen.columns, columns, &rows, paint);
    };
    if screen.headers {
        let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
        let header = aligned(columns, &layout, &titles, |_, cell| cell);
        out.line(&screen.paint.bold(&header))?;
    }
    for cells in &rows {
        out.line(&aligned(columns, &layout, cells, paint))?;
    }
    Ok(())
}

/// A line for each cell that is not empty, where not even the most needed columns fit side by side.
fn upright(
    out: &mut Out,
    available: usize,
    columns: &[Column],
    rows: &[Vec<String>],
    paint: impl Fn(&str, String) -> String,
) -> io::Result<()> {
    for (n, cells) in rows.iter().enumerate() {
        if n > 0 {
            out.line("")?;
        }
        for (column, cell) in columns.iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
            let title = format!("{}: ", column.title);
            let left = available.saturating_sub(text::width(&title));
            let line = match left {
                0 => text::fit(&title, available).into_owned(),
                left => format!("{title}{}", paint(column.title, text::fit(cell, left).into_owned())),
            };
            out.line(line.trim_end())?;
        }
    }
    Ok(())
}

/// The width of each column so that all fit into `available`; `None` leaves a column out, and the whole is `None` if
/// those that always stay do not fit.
fn layout(columns: &[Column], natural: &[usize], available: usize) -> Option<Vec<Option<usize>>> {
    let mut widths: Vec<Option<usize>> = natural.iter().map(|width| Some(*width)).collect();
    loop {
        let shown = widths.iter().flatten().count();
        let total = widths.iter().flatten().sum::<usize>() + 2 * shown.saturating_sub(1);
        let excess = total.saturating_sub(available);
        if excess == 0 {
            return Some(widths);
        }
        let slack = |n: usize| match widths[n] {
            Some(width) if columns[n].shrinks => width.saturating_sub(NARROWEST.max(columns[n].title.len())),
            _ => 0,
        };
        let widest = (0..columns.len()).max_by_key(|n| slack(*n)).filter(|n| slack(*n) > 0);
        if (0..columns.len()).map(slack).sum::<usize>() >= excess
            && let Some(n) = widest
        {
            let cut = slack(n).min(excess);
            widths[n] = widths[n].map(|width| width - cut);
            continue;
        }
        let leaves = (0..columns.len()).filter(|n| widths[*n].is_some() && columns[*n].expendable > 0);
        let leaves = leaves.max_by_key(|n| columns[*n].expendable)?;
        widths[leaves] = None;
    }
}

fn aligned(
    columns: &[Column],
    layout: &[Option<usize>],
    cells: &[String],
    paint: impl Fn(&str, String) -> String,
) -> String {
    let mut line = String::new();
    for ((column, width), cell) in columns.iter().zip(layout).zip(cells) {
        let Some(width) = *width else { continue };
        let cell = text::fit(cell, width).into_owned();
        let padding = " ".repeat(width.saturating_sub(text::width(&cell)));
        if !line.is_empty() {
            line.push_str("  ");
        }
        let cell = paint(column.title, cell);
        match column.right {
            true => line.extend([padding, cell]),
            false => line.extend([cell, padding]),
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// Standard output, buffered. A closed pipe is an error here, never a panic.
pub(crate) struct Out {
    to: io::BufWriter<io::StdoutLock<'static>>,
}

impl Out {
    /// Locks standard output.
    pub(crate) fn new() -> Out {
        Out { to: io::BufWriter::with_capacity(64 << 10, io::stdout().lock()) }
    }

    /// Text and a line end.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.to.write_all(text.as_bytes())?;
        self.to.write_all(b"\n")
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)
    }

    /// One line of JSON for one row of a list: `taskq.v1.jobs` becomes `taskq.v1.job`.
    pub(crate) fn record(&mut self, schema: &str, row: &impl Serialize) -> io::Result<()> {
        let document =
            versioned(schema.strip_suffix('s').unwrap_or(schema), row).map_err(io::Error::other)?;
        self.json(&document, false)
    }

    fn json(&mut self, document: &Value, pretty: bool) -> io::Result<()> {
        match pretty {
            true => serde_json::to_writer_pretty(&mut self.to, document)?,
            false => serde_json::to_writer(&mut self.to, document)?,
        }
        self.to.write_all(b"\n")
    }

    /// Writes out what is buffered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::number("ID", 0),
        Column::flexible("NAME", 1),
        Column::text("STATE", 0),
        Column::flexible("REASON", 2),
    ];

    #[test]
    fn a_wide_terminal_shows_all_and_a_narrow_one_cuts_then_drops() {
        let layout = |available| layout(&COLUMNS, &[3, 20, 7, 40], available);
        assert_eq!(layout(200), Some(vec![Some(3), Some(20), Some(7), Some(40)]));
        assert_eq!(layout(60), Some(vec![Some(3), Some(20), Some(7), Some(24)]));
        assert_eq!(layout(30), Some(vec![Some(3), Some(8), Some(7), Some(6)]));
        assert_eq!(layout(20), Some(vec![Some(3), Some(6), Some(7), None]));
        assert_eq!(layout(12), Some(vec![Some(3), None, Some(7), None]));
        assert_eq!(layout(11), None, "what must stay does not fit");
    }

    #[test]
    fn cells_are_aligned_and_cut() {
        let layout = [Some(3), Some(6), Some(7), None];
        let cells = ["7", "a long name", "running", "gone"].map(str::to_owned);
        assert_eq!(aligned(&COLUMNS, &layout, &cells, |_, cell| cell), "  7  a lon…  running");
    }
}

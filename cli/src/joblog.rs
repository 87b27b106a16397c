//! The table that `map --joblog` writes: one line per ended task, tab-separated with a header, so that
//! it opens in a spreadsheet, and `--resume` reads it back.
//! Written in the order in which tasks end. A task that was run again has several lines; the last one counts.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

const HEADER: [&str; 11] = [
    "Seq",
    "Host",
    "Starttime",
    "JobRuntime",
    "Exitval",
    "Signal",
    "State",
    "Attempt",
    "Job",
    "PeakRSS",
    "Command",
];

/// One ended task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// Counts from 1: the task's index plus one, as `{#}`.
    pub(crate) seq: u64,
    /// The worker that ran it.
    pub(crate) host: String,
    /// Unix time in seconds.
    pub(crate) start_s: f64,
    pub(crate) runtime_s: f64,
    pub(crate) exit: i32,
    pub(crate) signal: i32,
    pub(crate) state: String,
    pub(crate) attempt: u32,
    pub(crate) job: u64,
    pub(crate) peak_rss_bytes: u64,
    /// As one would type it in a shell; tabs and line ends are escaped.
    pub(crate) command: String,
}

/// What went wrong with a job log.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("cannot open job log {}", .path.display())]
    Open {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("cannot write job log {}", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        cause: csv::Error,
    },
    #[error("{} is not a job log of taskq: line {line}: {problem}", .path.display())]
    Format { path: PathBuf, line: u64, problem: String },
}

impl Error {
    /// True if the file is something else than a job log.
    pub(crate) fn is_another_file(&self) -> bool {
        matches!(self, Error::Format { .. })
    }
}

/// An open job log.
pub(crate) struct Writer {
    path: PathBuf,
    csv: csv::Writer<File>,
}

impl Writer {
    /// Opens `path`; `append` keeps what is there, otherwise it begins anew.
    pub(crate) fn open(path: &Path, append: bool) -> Result<Writer, Error> {
        let fail = |cause| Error::Open { path: path.to_owned(), cause };
        let mut options = OpenOptions::new();
        options.create(true);
        let options = if append { options.append(true) } else { options.write(true).truncate(true) };
        let file = options.open(path).map_err(fail)?;
        let empty = file.metadata().map_err(fail)?.len() == 0;
        let csv =
            csv::WriterBuilder::new().delimiter(b'\t').quote_style(csv::QuoteStyle::Never).from_writer(file);
        let mut writer = Writer { path: path.to_owned(), csv };
        if empty {
            writer.csv.write_record(HEADER).map_err(|cause| Error::Write { path: path.to_owned(), cause })?;
            writer.flush()?;
        }
        Ok(writer)
    }

    /// Adds one line; call `flush` after a batch.
    pub(crate) fn add(&mut self, line: &Line) -> Result<(), Error> {
        let fields = [
            line.seq.to_string(),
            one_line(&line.host),
            format!("{:.3}", line.start_s),
            format!("{:.3}", line.runtime_s),
            line.exit.to_string(),
            line.signal.to_string(),
            one_line(&line.state),
            line.attempt.to_string(),
            line.job.to_string(),
            line.peak_rss_bytes.to_string(),
            one_line(&line.command),
        ];
        self.csv.write_record(fields).map_err(|cause| Error::Write { path: self.path.clone(), cause })
    }

    /// Hands the lines to the operating system, so that a killed `map` can be resumed.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.csv.flush().map_err(|cause| Error::Write { path: self.path.clone(), cause: cause.into() })
    }
}

fn one_line(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

/// Undoes `one_line`.
fn many_lines(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.as_str().chars().next()) {
            ('\\', Some(escaped @ ('\\' | 't' | 'n' | 'r'))) => {
                plain.push(match escaped {
                    't' => '\t',
                    'n' => '\n',
                    'r' => '\r',
                    other => other,
                });
                chars.next();
            }
            _ => plain.push(c),
        }
    }
    plain
}

/// What a job log says about an earlier run, by sequence number.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    ended: BTreeMap<u64, End>,
}

#[derive(Debug)]
struct End {
    ok: bool,
    job: u64,
    command: String,
}

impl Earlier {
    /// Reads the log at `path`; a log that does not exist yet is an empty one.
    pub(crate) fn read(path: &Path) -> Result<Earlier, Error> {
        match File::open(path) {
            Ok(file) => Earlier::parse(path, BufReader::new(file)),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(Earlier::default()),
            Err(cause) => Err(Error::Open { path: path.to_owned(), cause }),
        }
    }

    fn parse(path: &Path, from: impl Read) -> Result<Earlier, Error> {
        let bad =
            |line, problem: &str| Error::Format { path: path.to_owned(), line, problem: problem.to_owned() };
        let mut reader =
            csv::ReaderBuilder::new().delimiter(b'\t').quoting(false).flexible(true).from_reader(from);
        let header = reader.headers().map_err(|cause| bad(1, &cause.to_string()))?.clone();
        let column = |name| header.iter().position(|field| field == name);
        let (Some(seq), Some(exit), Some(signal), Some(command)) =
            (column("Seq"), column("Exitval"), column("Signal"), column("Command"))
        else {
            return Err(bad(1, "the header lacks Seq, Exitval, Signal or Command"));
        };
        let (state, job) = (column("State"), column("Job"));
        let mut ended = BTreeMap::new();
        for (n, record) in reader.records().enumerate() {
            let line = n as u64 + 2;
            let record = record.map_err(|cause| bad(line, &cause.to_string()))?;
            // The last line of a killed run may be cut short: that task counts as not run.
            let (Some(exit), Some(signal), Some(command)) =
                (record.get(exit), record.get(signal), record.get(command))
            else {
                continue;
            };
            let number = record.get(seq).and_then(|text| text.parse().ok()).filter(|seq| *seq > 0);
            let seq = number.ok_or_else(|| bad(line, "Seq is not a number from 1"))?;
            let succeeded =
                state.and_then(|state| record.get(state)).is_none_or(|state| state == "succeeded");
            let ok = exit == "0" && signal == "0" && succeeded;
            let job = job.and_then(|job| record.get(job)).and_then(|text| text.parse().ok()).unwrap_or(0);
            ended.insert(seq, End { ok, job, command: many_lines(command) });
        }
        Ok(Earlier { ended })
    }

    /// The sequence numbers that need not run again; with `failed_again` those that failed must.
    pub(crate) fn done(&self, failed_again: bool) -> impl Iterator<Item = u64> + '_ {
        self.ended.iter().filter(move |(_, end)| end.ok || !failed_again).map(|(seq, _)| *seq)
    }

    /// What did not succeed, by the job that ran it last.
    pub(crate) fn failed(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut jobs: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (seq, end) in self.ended.iter().filter(|(_, end)| !end.ok) {
            jobs.entry(end.job).or_default().push(*seq);
        }
        jobs
    }

    /// The command that the log has for this number.
    pub(crate) fn command(&self, seq: u64) -> Option<&str> {
        self.ended.get(&seq).map(|end| end.command.as_str())
    }

    /// What the log says was run as number `seq`, if that differs from `command`.
    pub(crate) fn other_command(&self, seq: u64, command: &str) -> Option<&str> {
        let logged = self.ended.get(&seq)?.command.as_str();
        (logged != command).then_some(logged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: u64, exit: i32, command: &str) -> Line {
        Line {
            seq,
            host: "w1".into(),
            start_s: 1_700_000_000.25,
            runtime_s: 0.5,
            exit,
            signal: 0,
            state: if exit == 0 { "succeeded" } else { "failed" }.into(),
            attempt: 1,
            job: 7,
            peak_rss_bytes: 4096,
            command: command.into(),
        }
    }

    #[test]
    fn a_log_is_read_back_and_the_last_line_counts() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("jobs.tsv");
        for run in [
            vec![line(1, 0, "gzip 'a\tb'"), line(2, 1, "gzip c"), line(3, 9, "x")],
            vec![line(2, 0, "gzip c")],
        ] {
            let mut writer = Writer::open(&path, true).expect("open");
            for line in &run {
                writer.add(line).expect("add");
            }
            writer.flush().expect("flush");
        }
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text.lines().count(), 5, "one header, four lines:\n{text}");
        assert!(text.starts_with("Seq\tHost\tStarttime\tJobRuntime\tExitval\tSignal\t"), "{text}");
        assert!(
            text.contains("1\tw1\t1700000000.250\t0.500\t0\t0\tsucceeded\t1\t7\t4096\tgzip 'a\\tb'\n"),
            "{text}"
        );

        let earlier = Earlier::read(&path).expect("parse");
        assert_eq!(earlier.done(false).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(earlier.done(true).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(earlier.other_command(1, "gzip 'a\tb'"), None);
        assert_eq!(earlier.other_command(2, "gzip d"), Some("gzip c"));
        assert_eq!(earlier.other_command(9, "gzip d"), None);
        assert_eq!(earlier.failed().get(&7), Some(&vec![3]));
        assert_eq!(earlier.command(1), Some("gzip 'a\tb'"));
    }

    #[test]
    fn a_missing_log_is_empty_and_a_torn_line_is_ignored() {
        let missing = Earlier::read(Path::new("/nonexistent/jobs.tsv")).expect("empty");
        assert_eq!(missing.done(false).count(), 0);
        let torn = "Seq\tHost\tExitval\tSignal\tCommand\n1\tw\t0\t0\tx\n2\tw\t0";
        let earlier = Earlier::parse(Path::new("log"), torn.as_bytes()).expect("parse");
        assert_eq!(earlier.done(false).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn another_file_is_refused() {
        for text in ["hello\nworld\n", "", "Seq\tExitval\tSignal\tCommand\nx\t0\t0\ty\n"] {
            assert!(
                Earlier::parse(Path::new("log"), text.as_bytes()).is_err() || text.is_empty(),
                "{text:?}"
            );
        }
    }
}

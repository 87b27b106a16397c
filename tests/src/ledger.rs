//! What tasks really did, written by the tasks themselves: lines appended to one file with O_APPEND.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of side effects. Every line is `WHAT JOB TASK ATTEMPT`.
#[derive(Clone)]
pub struct Ledger {
    path: PathBuf,
}

impl Ledger {
    /// A ledger in `folder`.
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("ledger");
        fs::write(&path, "").expect("create the ledger");
        Self { path }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Shell text that appends a line. One `echo` is one write, and O_APPEND keeps lines whole.
    pub fn note(&self, what: &str) -> String {
        format!("echo {what} $TASKQ_JOB $TASKQ_TASK $TASKQ_ATTEMPT >> {}", self.path.display())
    }

    /// How often each task (job, index) noted `what`.
    pub fn counts(&self, what: &str) -> HashMap<(u64, u32), u32> {
        let mut counts = HashMap::new();
        for (job, task, _) in self.lines(what) {
            *counts.entry((job, task)).or_insert(0) += 1;
        }
        counts
    }

    /// The attempts of a task that noted `what`, in the order of the lines.
    pub fn attempts(&self, what: &str, job: u64, task: u32) -> Vec<u32> {
        self.lines(what)
            .into_iter()
            .filter(|line| (line.0, line.1) == (job, task))
            .map(|line| line.2)
            .collect()
    }

    /// Every (job, task, attempt) that noted `what`, in the order of the lines.
    pub fn lines(&self, what: &str) -> Vec<(u64, u32, u32)> {
        let text = fs::read_to_string(&self.path).expect("read the ledger");
        // A line without its end is being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter_map(|line| parse(line, what)).collect()
    }
}

fn parse(line: &str, what: &str) -> Option<(u64, u32, u32)> {
    let fields: Vec<&str> = line.split(' ').collect();
    assert_eq!(fields.len(), 4, "the ledger has a torn line: {line:?}");
    let number = |field: &str| field.parse::<u64>().unwrap_or_else(|_| panic!("not a number in {line:?}"));
    (fields[0] == what).then(|| (number(fields[1]), number(fields[2]) as u32, number(fields[3]) as u32))
}

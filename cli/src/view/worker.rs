//! A worker: its row in `taskq worker ls`, its lines in `taskq worker show`, its JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use taskq_client::model::function::Runtime;
use taskq_client::model::{Function, Limit, Worker, worker};

use crate::output::{Column, View};
use crate::text;

/// How many functions a row names; the rest is told by `taskq worker show`.
const NAMED: usize = 12;

/// A worker, as in `taskq worker ls`.
#[derive(Serialize)]
pub(crate) struct WorkerView {
    name: String,
    host: String,
    status: &'static str,
    slots: u32,
    running: u32,
    waiting: u32,
    resources: BTreeMap<String, u64>,
    labels: BTreeMap<String, String>,
    version: String,
    last_seen_ms_ago: u64,
    tasks: Vec<String>,
    functions: Vec<FunctionView>,
    async_slots: u32,
    busy: u32,
    commands: bool,
    limits: Vec<&'static str>,
    address: String,
}

/// What a worker can be called for.
#[derive(Serialize)]
struct FunctionView {
    name: String,
    runtime: &'static str,
}

impl From<&Function> for FunctionView {
    fn from(function: &Function) -> FunctionView {
        let runtime = match function.runtime() {
            Runtime::Threads => "threads",
            Runtime::Async => "async",
            Runtime::Process => "process",
        };
        FunctionView { name: function.name.clone(), runtime }
    }
}

fn limit(limit: Limit) -> Option<&'static str> {
    match limit {
        Limit::Unspecified => None,
        Limit::Memory => Some("memory"),
        Limit::Cpu => Some("cpu"),
        Limit::Processes => Some("processes"),
    }
}

impl From<Worker> for WorkerView {
    fn from(worker: Worker) -> WorkerView {
        let status = match worker.status() {
            worker::Status::Unspecified => "unknown",
            worker::Status::Online => "online",
            worker::Status::Draining => "draining",
            worker::Status::Suspect => "suspect",
            worker::Status::Expected => "expected",
        };
        let limits = worker.limits().filter_map(limit).collect();
        WorkerView {
            name: worker.name,
            host: worker.host,
            status,
            slots: worker.slots,
            running: worker.running,
            waiting: worker.waiting,
            resources: worker.named.into_iter().collect(),
            labels: worker.labels.into_iter().collect(),
            version: worker.version,
            last_seen_ms_ago: worker.last_seen_ms_ago,
            tasks: worker.tasks.iter().map(|task| format!("{}.{}", task.job_id, task.index)).collect(),
            functions: worker.functions.iter().map(FunctionView::from).collect(),
            async_slots: worker.async_slots,
            busy: worker.busy,
            commands: !worker.no_commands,
            limits,
            address: worker.address,
        }
    }
}

impl WorkerView {
    /// Resources and labels.
    fn offers(&self) -> Vec<String> {
        let resources = self.resources.iter().map(|(name, count)| format!("{name}={count}"));
        let labels = self.labels.iter().map(|(key, value)| format!("{key}={value}"));
        resources.chain(labels).collect()
    }

    /// And the functions, as far as they fit into a row.
    fn all_offers(&self) -> String {
        let mut offers = self.offers();
        offers.extend(self.functions.iter().take(NAMED).map(|function| function.name.clone()));
        if self.functions.len() > NAMED {
            offers.push(format!("and {} functions more", self.functions.len() - NAMED));
        }
        offers.join(" ")
    }

    /// The functions, by what runs them.
    fn by_runtime(&self) -> BTreeMap<&'static str, Vec<&str>> {
        let mut by_runtime: BTreeMap<&'static str, Vec<&str>> = BTreeMap::new();
        for function in &self.functions {
            by_runtime.entry(function.runtime).or_default().push(&function.name);
        }
        by_runtime
    }

    /// Everything, for `taskq worker show`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("worker {}  {}", text::visible(&self.name), self.status)];
        let mut add =
            |title: &str, value: String| lines.push(format!("  {title:<10} {}", text::visible(&value)));
        add("host", format!("{}  taskq {}", self.host, self.version));
        add("address", self.address.clone());
        let mut slots = format!("{}: {} running, {} waiting", self.slots, self.running, self.waiting);
        if self.async_slots > 0 {
            slots = format!(
                "{} and {} async: {} running, {} waiting",
                self.slots, self.async_slots, self.running, self.waiting
            );
        }
        if self.busy > 0 {
            slots.push_str(&format!("; {} still busy with calls that were stopped", self.busy));
        }
        add("slots", slots);
        let offers = self.offers();
        if !offers.is_empty() {
            add("offers", offers.join(" "));
        }
        add("last seen", format!("{} ago", text::duration(self.last_seen_ms_ago)));
        for (runtime, functions) in self.by_runtime() {
            add(runtime, functions.join(" "));
        }
        if !self.commands {
            add("commands", "none: it runs functions only".to_owned());
        }
        let limits = if self.limits.is_empty() { "none".to_owned() } else { self.limits.join(" ") };
        add("limits", limits);
        if !self.tasks.is_empty() {
            add("tasks", self.tasks.join(" "));
        }
        lines
    }
}

impl View for WorkerView {
    const SCHEMA: &'static str = "taskq.v1.workers";
    const COLUMNS: &'static [Column] = &[
        Column::flexible("NAME", 0),
        Column::text("STATUS", 0),
        Column::number("SLOTS", 2),
        Column::number("RUNNING", 1),
        Column::number("WAITING", 4),
        Column::flexible("HOST", 5),
        Column::number("SEEN", 3),
        Column::flexible("OFFERS", 6),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.status.to_owned(),
            self.slots.to_string(),
            self.running.to_string(),
            self.waiting.to_string(),
            self.host.clone(),
            text::age(self.last_seen_ms_ago),
            self.all_offers(),
        ]
    }

    fn id(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_a_few_functions_and_an_empty_line_is_left_out() {
        let function = |n: usize| Function { name: format!("f{n}"), ..Function::default() };
        let worker = |count| {
            let named = [("gpu".to_owned(), 1)].into();
            let functions = (0..count).map(function).collect();
            WorkerView::from(Worker { named, functions, ..Worker::default() })
        };
        assert_eq!(worker(2).all_offers(), "gpu=1 f0 f1");
        assert!(worker(NAMED + 3).all_offers().ends_with(" f11 and 3 functions more"));
        let lines = worker(2).lines().join("\n");
        assert!(lines.contains("  offers     gpu=1\n") && lines.contains("  threads    f0 f1"), "{lines}");
        assert!(!lines.contains("  tasks"), "{lines}");
        let none = WorkerView::from(Worker::default()).lines().join("\n");
        assert!(!none.contains("  offers"), "{none}");
    }
}

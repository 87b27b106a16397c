//! `taskq bench`: every case gives a document of figures that can be; what fails is no figure; nothing is left.

use rustix::process::Signal;
use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;
use taskq_tests::procs::{self, Process};
use taskq_tests::taskq::Running;
use taskq_tests::{Taskq, binaries, wait};
use tempfile::TempDir;

/// Every variant, in order, with the limit that it is compared with.
const LINES: &[(&str, &str, Option<&str>)] = &[
    ("submit", "single-1", Some("fdatasyncs")),
    ("submit", "single-64", Some("fdatasyncs")),
    ("submit", "bulk", Some("fdatasyncs")),
    ("submit", "array-1m", Some("fdatasyncs")),
    ("commands", "plain", Some("spawns")),
    ("commands", "output-2k", Some("spawns")),
    ("calls", "array", None),
    ("calls", "array-async", None),
    ("calls", "each", None),
    ("calls", "each-async", None),
    ("latency", "call", Some("3 fdatasyncs + 4 round trips")),
    ("latency", "command", Some("3 fdatasyncs + 4 round trips + 1 spawn")),
    ("latency", "cli", Some("3 fdatasyncs + 4 round trips + 2 spawns")),
    ("payload", "1-kb", None),
    ("payload", "1-mb", None),
    ("payload", "64-mb", None),
    ("backlog", "queued-1000", None),
    ("backlog", "queued-1500", Some("queued-1000")),
    ("fanout", "workers-1", None),
    ("fanout", "workers-2", Some("workers-1")),
];

/// Lines that have no time of a single operation.
const WHOLE: &[&str] = &["bulk", "plain", "output-2k", "array", "array-async"];

/// A bench whose directories are made in this folder.
fn bench(folder: &TempDir, words: &[&str]) -> Taskq {
    let place = folder.path().to_str().expect("UTF-8");
    Taskq::new(folder.path(), &[&["bench", "--data", place], words].concat())
}

/// The number at a place of the document; it is finite, as JSON has no others.
#[track_caller]
fn number(document: &Value, place: &str) -> f64 {
    let found = document.pointer(place).unwrap_or_else(|| panic!("{place} is missing: {document}"));
    found.as_f64().unwrap_or_else(|| panic!("{place} is no number: {document}"))
}

/// Directories of a bench, and processes that live in one.
fn left(folder: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for entry in fs::read_dir(folder).expect("list the folder") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        left.extend(Some(name).filter(|name| name.starts_with("taskq-bench-")));
    }
    for entry in fs::read_dir("/proc").expect("list /proc") {
        let path = entry.expect("an entry").path();
        if fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)) {
            left.push(path.display().to_string());
        }
    }
    left
}

/// What a bench has started, once all of it is there: the coordinator, the worker, and its spawner.
fn started(bench: &Running) -> HashSet<Process> {
    wait::until("coordinator, worker and spawner are there", || {
        let below = procs::descendants(bench.pid());
        let is_there = |word: &str| below.iter().any(|process| words(*process).contains(word));
        (is_there("taskq-server") && is_there("bench-worker") && is_there("taskq-spawner")).then_some(below)
    })
}

/// Its command line; empty once it is gone.
fn words(process: Process) -> String {
    let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("taskq-test-").tempdir().expect("a temporary folder")
}

#[test]
fn every_case_is_measured_and_nothing_is_left() {
    let folder = folder();
    let words = ["--quick", "--tasks", "4", "--queued", "1500", "--workers", "2", "--slots", "2", "--json"];
    let document = bench(&folder, &words).run().ok().json();
    assert_eq!(document["schema"], "taskq.v1.bench");
    assert_eq!(document["taskq"], env!("CARGO_PKG_VERSION"));
    for figure in ["fdatasync_per_second", "spawns_per_second", "lone_spawn_us", "round_trip_us", "cores"] {
        assert!(number(&document["machine"], &format!("/{figure}")) > 0.0, "{figure}: {document}");
    }
    assert!(
        number(&document, "/machine/grpc_round_trip_us") > 0.0 && document["machine"]["kernel"].is_string()
    );

    let cases = document["cases"].as_array().expect("the cases");
    let names: Vec<_> = cases.iter().map(|line| (&line["case"], &line["variant"])).collect();
    let expected: Vec<_> =
        LINES.iter().map(|(case, variant, _)| (Value::from(*case), Value::from(*variant))).collect();
    assert!(names.iter().copied().eq(expected.iter().map(|(case, variant)| (case, variant))), "{names:?}");
    for (line, (case, variant, limit)) in cases.iter().zip(LINES) {
        assert_eq!((&line["tasks"], &line["slots"], &line["repeats"]), (&4.into(), &2.into(), &1.into()));
        let workers = if *variant == "workers-1" { 1 } else { 2 };
        assert_eq!(line["workers"], workers, "{line}");
        let rate = number(line, "/per_second");
        assert!((rate * number(line, "/seconds") - 4.0).abs() < 1e-6, "{line}");
        assert_eq!((rate, rate), (number(line, "/best_per_second"), number(line, "/worst_per_second")));
        for part in ["coordinator", "worker", "client"] {
            assert!((0.0..1e9).contains(&number(line, &format!("/cpu_us_per_task/{part}"))), "{line}");
            assert!(number(line, &format!("/peak_rss_bytes/{part}")) > 1e6, "{line}");
        }
        assert!(number(line, "/disk_bytes_per_task").abs() < 1e9, "{line}");
        if WHOLE.contains(variant) {
            assert!(line["latency_us"].is_null(), "{line}");
        } else {
            let [p50, p99, max] = ["p50", "p99", "max"].map(|at| number(line, &format!("/latency_us/{at}")));
            assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{line}");
        }
        assert_eq!(line["bytes_per_second"].is_null(), *case != "payload", "{line}");
        match limit {
            None => assert!(line["of_limit"].is_null(), "{line}"),
            Some(limit) => {
                assert_eq!(line["of_limit"]["limit"], *limit, "{line}");
                assert!(number(line, "/of_limit/value") > 0.0 && number(line, "/of_limit/ratio") > 0.0);
            }
        }
    }
    let payload = cases.iter().find(|line| line["variant"] == "1-mb").expect("it is in the list");
    let bytes = number(payload, "/bytes_per_second") / number(payload, "/per_second");
    assert!((bytes - f64::from(2 << 20)).abs() < 1.0, "{payload}");
    assert!(number(payload, "/disk_bytes_per_task") >= f64::from(2 << 20), "argument and value: {payload}");
    wait::holds("nothing is left", || left(folder.path()).is_empty());
}

#[test]
fn medians_are_of_all_rounds_and_one_process_can_be_all() {
    let folder = folder();
    let words = ["calls", "fanout", "--local", "--tasks", "50", "--repeat", "3"];
    let run = bench(&folder, &[&words[..], &["--json"]].concat()).run().ok().says(&["fanout is left out"]);
    let document = run.json();
    assert_eq!(document["cases"].as_array().map(Vec::len), Some(4), "{run}");
    for line in document["cases"].as_array().expect("the cases") {
        assert_eq!(line["repeats"], 3);
        let [worst, median, best] =
            ["worst_per_second", "per_second", "best_per_second"].map(|at| number(line, &format!("/{at}")));
        assert!(0.0 < worst && worst <= median && median <= best, "{line}");
        assert!(number(line, "/cpu_us_per_task/process") >= 0.0, "{line}");
        assert!(number(line, "/peak_rss_bytes/process") > 1e6, "{line}");
    }
    let table = bench(&folder, &[&words[..], &["-o", "table"]].concat()).run().ok().out();
    assert!(table.starts_with("CASE") && table.contains("calls each-async"), "{table}");
    assert!(table.contains("\nmachine ") && table.contains("\nDISK "), "{table}");
    wait::holds("nothing is left", || left(folder.path()).is_empty());
}

#[test]
fn an_interrupt_leaves_nothing() {
    let folder = folder();
    let bench = bench(&folder, &["latency", "--tasks", "1000000", "--json"]).start();
    let below = started(&bench);
    bench.signal(Signal::INT);
    let run = bench.end().code(130).says(&["interrupted; nothing"]);
    assert_eq!(run.out(), "", "no figures");
    assert!(below.iter().all(|process| !process.lives()), "they have ended before the bench did");
    assert_eq!(left(folder.path()), Vec::<String>::new());
}

#[test]
fn a_bench_that_is_killed_takes_its_processes_along() {
    let folder = folder();
    let bench = bench(&folder, &["latency", "--tasks", "1000000"]).start();
    let below = started(&bench);
    bench.signal(Signal::KILL);
    assert_eq!(bench.end().code, 128 + 9);
    // Spawners that have somebody to tell try that for a minute.
    let limit = Duration::from_secs(20);
    wait::until_within(limit, "coordinator, worker and spawner are gone", || {
        below.iter().all(|process| !process.lives()).then_some(())
    });
}

#[test]
fn a_figure_is_never_shown_for_work_that_was_not_done() {
    let folder = folder();
    let bench_of = |words: &[&str]| bench(&folder, words);
    let running = bench_of(&["latency", "--tasks", "1000000", "--json"]).start();
    let worker = started(&running).into_iter().find(|process| words(*process).contains("bench-worker"));
    let pid = worker.expect("it was seen").pid.cast_signed();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).expect("a process id"), Signal::KILL)
        .expect("kill the worker");
    let run = running.end().code(1).says(&["worker 0 ended while it was needed", "the last lines of"]);
    assert_eq!(run.out(), "");

    let late = bench_of(&["latency", "--tasks", "1000000", "--timeout", "2s", "--json"]).run().code(124);
    assert_eq!(late.says(&["latency call", "not done within 2 s", "--timeout"]).out(), "");
    assert_eq!(left(folder.path()), Vec::<String>::new());
}

#[test]
fn a_worker_in_this_process_that_cannot_start_says_why() {
    let folder = folder();
    // Room for all but the stacks of so many threads.
    let said = std::process::Command::new("prlimit")
        .arg("--as=3000000000")
        .arg(binaries::taskq())
        .args(["bench", "calls", "--local", "--slots", "4096", "--tasks", "4", "--data"])
        .arg(folder.path())
        .output()
        .expect("run taskq under prlimit");
    let told = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(told.contains("does not come up") && told.contains("give fewer --slots"), "{told}");
    assert_eq!((said.status.code(), said.stdout.is_empty()), (Some(78), true), "{told}");
    assert_eq!(left(folder.path()), Vec::<String>::new());
}

#[test]
fn what_cannot_be_measured_is_said() {
    let folder = folder();
    bench(&folder, &["submit", "--addr", "127.0.0.1:1"]).run().code(2).says(&["of its own", "--addr"]);
    bench(&folder, &["sbmit"]).run().code(2).says(&["sbmit", "submit"]);
    let nowhere = ["bench", "submit", "--data", "/nowhere/at/all"];
    Taskq::new(folder.path(), &nowhere).run().code(74).says(&["/nowhere/at/all"]);

    let alone = folder.path().join("taskq");
    fs::copy(binaries::taskq(), &alone).expect("copy taskq to where no taskq-server is");
    let said = std::process::Command::new(&alone)
        .args(["bench", "submit", "--data"])
        .arg(folder.path())
        .output()
        .expect("run taskq");
    let told = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(127), "{told}");
    assert!(
        told.contains("there is no ") && told.contains("taskq-server") && told.contains("--local"),
        "{told}"
    );
    assert_eq!(left(folder.path()), Vec::<String>::new());
}

//! `--log-format json`: whatever a daemon writes is one object a line, with facts in fields of their own.

use serde_json::Value;
use std::process::Command;
use taskq_tests::{Cluster, Setup, binaries, cluster, spec, wait};

/// Every line of a log, understood.
#[track_caller]
fn lines(log: &str) -> Vec<Value> {
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        for field in ["timestamp", "level", "message", "target"] {
            assert!(line[field].is_string(), "{field} is in {line}");
        }
        line
    };
    log.lines().map(read).collect()
}

/// The line that says this.
#[track_caller]
fn said<'a>(lines: &'a [Value], message: &str) -> &'a Value {
    let says = |line: &&Value| line["message"].as_str().is_some_and(|said| said.contains(message));
    lines.iter().find(says).unwrap_or_else(|| panic!("nothing says {message:?}: {lines:#?}"))
}

#[test]
fn daemons_log_objects_through_a_life() {
    let mut cluster = Setup::new().env("TASKQ_LOG_FORMAT", "json").flags(&["--lease", "1s"]).start();
    cluster.worker(2);
    let api = cluster.api();
    api.ended(api.submit_one(spec::array(spec::shell("echo out; echo err >&2; exit 1"), 5)));
    let address = cluster.access().address;
    cluster.kill_server();
    cluster.start_server();
    wait::holds("the worker is back", || {
        cluster.worker_at(0).log().matches("connected to the coordinator").count() == 2
    });
    let incarnation = cluster.api().workers().expect("workers")[0].incarnation;
    cluster.worker_at(0).kill();
    wait::holds("it was buried", || cluster.server().log().contains("buried"));
    cluster.stop_server();
    for (_, log) in cluster.logs() {
        assert!(!log.is_empty());
        lines(&log);
    }
    let server = lines(&cluster.server().log());
    let ready = said(&server, "the coordinator is ready");
    assert_eq!((&ready["addr"], &ready["epoch"]), (&Value::from(address), &Value::from("2")), "{ready}");
    let buried = said(&server, "a worker was buried");
    assert_eq!(buried["incarnation"], Value::from(incarnation.to_string()), "{buried}");
    let worker = lines(&cluster.worker_at(0).log());
    let started = said(&worker, "worker started");
    assert_eq!((&started["name"], &started["slots"]), (&Value::from("w0"), &Value::from(2)), "{started}");
    assert_eq!(said(&worker, "connected to the coordinator")["epoch"], 1);
    let lost = said(&worker, "no coordinator");
    assert!(lost["level"] == "WARN" && lost["reason"].is_string(), "{lost}");
}

#[test]
fn what_ends_a_daemon_is_an_object_too() {
    let cluster = Cluster::start();
    // The directory is in use.
    let (code, log) = Setup::new().data(&cluster.data()).flags(&["--log-format", "json"]).refused();
    assert_eq!(code, 75, "{log}");
    let refused = lines(&log);
    let why = said(&refused, "is in use by process");
    assert_eq!((&why["level"], &why["exit_code"]), (&Value::from("ERROR"), &Value::from(75)), "{why}");
    let mut worker = Command::new(binaries::worker());
    cluster::clean(&mut worker, cluster.folder());
    worker.args(["--log-format", "json", "--addr", &cluster.access().address]).env("TASKQ_TOKEN", "tq_wrong");
    let output = worker.output().expect("a worker that is refused");
    let log = String::from_utf8(output.stderr).expect("text");
    let refused = lines(&log);
    let why = said(&refused, "refused the token");
    assert_eq!(why["exit_code"].as_i64().map(|code| code as i32), output.status.code(), "{why}");
}

#[test]
fn a_panic_is_an_object_too() {
    // No thread can be had: its stack would be larger than any address space.
    let none = 1_u64 << 48;
    let setup = Setup::new().env("RUST_MIN_STACK", &none.to_string()).flags(&["--log-format", "json"]);
    let (code, log) = setup.refused();
    assert_eq!(code, 101, "{log}");
    let panicked = lines(&log);
    let panic = said(&panicked, "panicked: ");
    assert!(panic["level"] == "ERROR" && panic["place"].is_string(), "{panic}");
}

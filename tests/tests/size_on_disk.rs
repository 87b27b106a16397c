//! Size on disk: how much the coordinator's data directory grows with each task that has ended, as `du` counts it: the
//! blocks of all its files, with what the engine keeps beside what it needs.
//!
//! The limits are promised for 1,000,000 tasks, and hold for fewer; but the engine takes back space only when it has
//! filled some of its segments of 8 MiB, so that the first tasks with values take more each.

use taskq_proto::v1 as pb;
use taskq_tests::{Api, Cluster, binaries, procs, spec};

const COMMANDS: u32 = 1_000;

/// Runs the job to its end, and says how many bytes the disk has got for each of its tasks.
fn bytes_a_task(cluster: &Cluster, api: &Api, job: pb::JobSpec, tasks: u32) -> f64 {
    let before = procs::disk_bytes(&cluster.data());
    let id = api.submit_one(job);
    let ended = api.ended(id);
    assert_eq!(ended.counts.map(|counts| counts.succeeded), Some(tasks), "{ended:?}");
    let added = procs::disk_bytes(&cluster.data()).saturating_sub(before);
    assert!(added > 0, "{tasks} tasks left nothing on the disk");
    // All that a person asks for is still there: of the first, of one in the middle, and of the last.
    for index in [0, tasks / 2, tasks - 1] {
        let task = api.task(id, index);
        let outcome = task.outcome.as_ref().unwrap_or_else(|| panic!("{task:?} has no outcome"));
        assert!(outcome.usage.is_some() && !outcome.worker.is_empty(), "{task:?}");
        assert!(outcome.started_unix_ms > 0, "{task:?}");
        assert!(outcome.ended_unix_ms >= outcome.started_unix_ms, "{task:?}");
    }
    added as f64 / f64::from(tasks)
}

fn measured(function: &str, calls: u32, limit: f64) {
    let mut cluster = Cluster::start();
    cluster.worker_of(&binaries::example("plain"), 2, &[]);
    let api = cluster.api();
    api.ended(api.submit_one(spec::call(function, "1")));
    let job = spec::array(spec::call(function, ""), calls);
    let each = bytes_a_task(&cluster, &api, job, calls);
    println!("calls of {function:?}: {each:.1} bytes of disk a task");
    assert!(each < limit, "{each} bytes for each call of {function:?}");
}

#[test]
fn a_call_without_a_value_takes_under_10_bytes() {
    measured("nothing", 100_000, 10.0);
}

#[test]
fn a_call_with_a_value_of_100_bytes_takes_under_300() {
    measured("hundred", 400_000, 300.0);
}

#[test]
fn a_command_takes_under_200_bytes() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let api = cluster.api();
    api.ended(api.submit_one(spec::command(&["true"])));
    let job = spec::array(spec::command(&["true"]), COMMANDS);
    let each = bytes_a_task(&cluster, &api, job, COMMANDS);
    println!("commands: {each:.1} bytes of disk a task");
    assert!(each < 200.0, "{each} bytes for each command");
}

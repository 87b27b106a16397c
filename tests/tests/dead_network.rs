//! Connections that die without a word: open at both ends, and nothing gets through.

use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};
use taskq_proto::v1::State;
use taskq_tests::{Cluster, Ledger, Proxy, Setup, Taskq, spec, wait};

/// Shorter than what a client takes to doubt its connection.
const LEASE: &str = "5s";
const LEASE_S: u64 = 5;

struct Scene {
    cluster: Cluster,
    proxy: Proxy,
    ledger: Ledger,
    job: u64,
}

/// A task runs at `w0`, which is behind a proxy, and waits for the file `gate`. `w1` has nothing to do and is connected
/// directly: it would take over.
fn a_task_behind_a_proxy() -> Scene {
    let mut cluster = Setup::new().flags(&["--lease", LEASE]).tolerate("no coordinator").start();
    let ledger = Ledger::new(cluster.folder());
    let proxy = Proxy::to(&cluster.access().address);
    cluster.launch_worker_at(0, 1, proxy.address());
    let script = format!(
        "{}; until [ -e gate ]; do sleep 0.02; done; {}; echo result",
        ledger.note("start"),
        ledger.note("end")
    );
    let mut job = spec::shell(&script);
    if let Some(command) = &mut job.command {
        command.cwd = cluster.folder().display().to_string();
    }
    let job = cluster.api().submit_one(job);
    wait::holds("the task has started", || !ledger.lines("start").is_empty());
    cluster.worker(1);
    wait::holds("the other worker is there", || cluster.api().workers().is_ok_and(|all| all.len() == 2));
    Scene { cluster, proxy, ledger, job }
}

impl Scene {
    /// The task ends; its only run counts.
    fn it_ran_once(self) {
        fs::write(self.cluster.folder().join("gate"), "").expect("open the gate");
        let api = self.cluster.api();
        assert_eq!(api.ended(self.job).state, State::Succeeded as i32);
        let task = api.task(self.job, 0);
        assert_eq!((task.attempt, task.earlier.len()), (1, 0), "{task:?}");
        let outcome = task.outcome.expect("a task that ended has an outcome");
        assert_eq!((outcome.worker.as_str(), &outcome.stdout[..]), ("w0", &b"result\n"[..]));
        assert_eq!(self.ledger.lines("start"), [(self.job, 0, 1)]);
        assert_eq!(self.ledger.lines("end"), [(self.job, 0, 1)]);
    }

    fn welcomes(&mut self) -> usize {
        self.cluster.worker_at(0).log().matches("connected to the coordinator").count()
    }
}

#[test]
fn a_worker_leaves_a_dead_connection_within_a_short_lease() {
    let mut scene = a_task_behind_a_proxy();
    scene.proxy.darken();
    wait::holds("the worker is back over another connection", || scene.welcomes() == 2);
    scene.it_ran_once();
}

#[test]
fn a_worker_survives_a_silence_that_is_shorter_than_its_lease() {
    let mut scene = a_task_behind_a_proxy();
    let before = scene.proxy.connections();
    scene.proxy.darken_all();
    wait::holds("the worker has tried another connection", || scene.proxy.connections() > before);
    scene.proxy.heal();
    wait::holds("the worker is back", || scene.welcomes() == 2);
    scene.it_ran_once();
}

#[test]
fn a_live_connection_is_kept() {
    let mut scene = a_task_behind_a_proxy();
    // The doubts of a worker about its connection have no effect of their own.
    let before = scene.cluster.api().stats().unwrap().uptime_ms;
    let long = Duration::from_secs(2 * LEASE_S).as_millis() as u64;
    wait::holds("two leases have passed", || {
        scene.cluster.api().stats().is_ok_and(|stats| stats.uptime_ms > before + long)
    });
    assert_eq!((scene.welcomes(), scene.proxy.connections()), (1, 1));
    scene.it_ran_once();
}

/// `taskq` behind a proxy whose connections die in the middle of the output.
#[test]
fn run_and_logs_go_on_over_another_connection() {
    let mut cluster = Cluster::start();
    let ledger = Ledger::new(cluster.folder());
    let proxy = Proxy::to(&cluster.access().address);
    cluster.worker(2);
    let behind = |words: &[&str]| {
        Taskq::new(cluster.folder(), words)
            .env("TASKQ_ADDR", proxy.address())
            .env("TASKQ_TOKEN", cluster.access().token)
            .start()
    };
    let whole: String = (1..=60_000).map(|line| format!("{line}\n")).collect();
    let script = |gate: &str| {
        format!(
            "{}; seq 1 20000; until [ -e {gate} ]; do sleep 0.02; done; seq 20001 60000; {}; exit 3",
            ledger.note("start"),
            ledger.note("end")
        )
    };

    let first = cluster.taskq(&["submit", "--", "sh", "-c", &script("gate-1")]).ok().out();
    let logs = behind(&["logs", "-f", &first]);
    let run = behind(&["run", "--", "sh", "-c", &script("gate-2")]);
    for reader in [&logs, &run] {
        wait::holds("some output was shown", || reader.stdout().contains("\n9\n"));
    }
    proxy.darken();
    for gate in ["gate-1", "gate-2"] {
        fs::write(cluster.folder().join(gate), "").unwrap();
    }
    let (logs, run) = (logs.end().ok(), run.end().code(3));
    assert!(logs.stdout == whole.as_bytes(), "logs: {} bytes of {}", logs.stdout.len(), whole.len());
    assert!(run.stdout == whole.as_bytes(), "run: {} bytes of {}", run.stdout.len(), whole.len());
    assert!(proxy.connections() >= 4, "both came back over connections of their own");
    for what in ["start", "end"] {
        assert_eq!(ledger.lines(what).len(), 2, "each ran once");
    }
}

/// Longer than the lease, and nobody could be heard meanwhile: the silence was the coordinator's own.
#[test]
fn a_coordinator_that_was_stopped_for_longer_than_the_lease_declares_nobody_lost() {
    let mut scene = a_task_behind_a_proxy();
    scene.cluster.server().signal(Signal::STOP);
    let stopped = Instant::now();
    wait::holds("the lease is over", || stopped.elapsed() > Duration::from_secs(LEASE_S + 2));
    scene.cluster.server().signal(Signal::CONT);
    wait::holds("both workers are there again", || {
        let online = taskq_proto::v1::worker::Status::Online as i32;
        scene
            .cluster
            .api()
            .workers()
            .is_ok_and(|all| all.iter().filter(|one| one.status == online).count() == 2)
    });
    scene.it_ran_once();
}

//! Order while tasks are sent ahead and ends are gathered: an array starts in order of its index, a long task waits behind
//! no other, what is more urgent overtakes what only waits at its worker, and every queue has its turn.
//!
//! Tasks say themselves, in the ledger, when they start. One of them waits at a gate until the test has seen what it
//! wants to see.

use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use taskq_proto::v1::{self as pb, State};
use taskq_tests::{Api, Cluster, Ledger, notes, spec, wait};

/// Tasks of an array.
const TASKS: u32 = 60;
/// The one that waits at the gate: late enough that by then all know how short the others are.
const GATED: u32 = 30;

/// A task that notes its start, and one of its array that then waits until the gate is there.
fn gated(ledger: &Ledger, gate: &Path) -> pb::JobSpec {
    let wait = format!("until [ -e {} ]; do sleep 0.02; done", gate.display());
    spec::shell(&format!("{}; [ $TASKQ_TASK != {GATED} ] || {wait}", ledger.note("start")))
}

/// Waits until a worker has been sent some tasks beyond those that it runs.
fn sent_ahead(api: &Api) {
    let several = |worker: &pb::Worker| worker.waiting >= 3;
    wait::holds("tasks are sent ahead", || api.workers().is_ok_and(|all| all.iter().any(several)));
}

/// The indices of a job's tasks in the order of their starts.
fn started(ledger: &Ledger, job: u64) -> Vec<u32> {
    ledger.lines("start").into_iter().filter(|line| line.0 == job).map(|line| line.1).collect()
}

#[test]
fn an_array_of_commands_starts_in_order_of_its_index() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let (api, ledger, gate) = (cluster.api(), Ledger::new(cluster.folder()), cluster.folder().join("gate"));
    let id = api.submit_one(spec::array(gated(&ledger, &gate), TASKS));
    sent_ahead(&api);
    wait::holds("one is at the gate", || started(&ledger, id).contains(&GATED));
    assert!(started(&ledger, id).into_iter().eq(0..=GATED), "{:?}", ledger.lines("start"));
    std::fs::write(&gate, "").expect("open the gate");
    assert_eq!(api.ended(id).state, State::Succeeded as i32);
    assert!(started(&ledger, id).into_iter().eq(0..TASKS), "{:?}", ledger.lines("start"));
}

#[test]
fn an_array_of_calls_starts_in_order_of_its_index() {
    let mut cluster = Cluster::start();
    cluster.worker_of(&notes::program(), 1, &[]);
    let (api, ledger) = (cluster.api(), Ledger::new(cluster.folder()));
    for function in ["thread", "child"] {
        // Whoever notes in a pipe waits until somebody reads there.
        let gate = cluster.folder().join(function);
        mknodat(CWD, &gate, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("make a pipe");
        let to_ledger = notes::argument(Some(&ledger), 0, 0);
        let to_gate = serde_json::json!({ "ledger": gate }).to_string();
        let arguments: Vec<&str> =
            (0..TASKS).map(|index| if index == GATED { &*to_gate } else { &*to_ledger }).collect();
        let id = api.submit_one(spec::calls(function, &arguments));
        sent_ahead(&api);
        let before = || started(&ledger, id);
        wait::holds("those before the gate have started", || before().len() == GATED as usize);

        // It stays open for both of its notes.
        let pipe: File = OpenOptions::new().read(true).write(true).open(&gate).expect("open the pipe");
        let mut line = String::new();
        BufReader::new(&pipe).read_line(&mut line).expect("read the pipe");
        assert_eq!(line, format!("start {id} {GATED} 1\n"));
        assert_eq!(api.ended(id).state, State::Succeeded as i32);
        let others = (0..TASKS).filter(|index| *index != GATED);
        assert!(started(&ledger, id).into_iter().eq(others), "{function}: {:?}", ledger.lines("start"));
    }
}

#[test]
fn a_long_task_waits_at_no_busy_worker() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    cluster.worker(1);
    let api = cluster.api();
    let gate = |index: u32| cluster.folder().join(format!("gate-{index}"));
    // The first two show how long they take, and are the only ones that go by the clock.
    let folder = cluster.folder().display();
    let script = format!(
        "if [ $TASKQ_TASK -lt 2 ]; then sleep 1.2; exit; fi; \
         until [ -e {folder}/gate-$TASKQ_TASK ]; do sleep 0.02; done"
    );
    let tasks = 6;
    let id = api.submit_one(spec::array(spec::shell(&script), tasks));
    let runs = |index: u32| {
        let running = || Some(api.task(id, index)).filter(|task| task.state == State::Running as i32);
        wait::until(&format!("task {index} runs"), running).worker
    };
    let alone = || {
        let workers = api.workers().expect("the workers");
        assert!(workers.iter().all(|worker| (worker.running, worker.waiting) == (1, 0)), "{workers:?}");
    };
    // From here one worker is busy for ever, and the other one does all the rest.
    let busy = runs(2);
    let mut free = runs(3);
    assert_ne!(busy, free, "each has one");
    for index in 3..tasks {
        alone();
        assert_eq!(free, if busy == "w0" { "w1" } else { "w0" }, "task {index}");
        std::fs::write(gate(index), "").expect("open a gate");
        if index + 1 < tasks {
            free = runs(index + 1);
        }
    }
    std::fs::write(gate(2), "").expect("open the last gate");
    assert_eq!(api.ended(id).state, State::Succeeded as i32);
    for index in 0..tasks {
        // One that had waited for a second would have been given back.
        assert_eq!(api.task(id, index).attempt, 1, "task {index} went to one worker only");
    }
}

#[test]
fn a_long_call_is_not_sent_ahead_to_many_slots_either() {
    let mut cluster = Cluster::start();
    let slots = 64;
    cluster.worker_of(&notes::program(), 1, &["--async-slots", &slots.to_string()]);
    let api = cluster.api();
    // The first one shows how long they take; the others stay.
    let (first, others) = (notes::argument(None, 1_200, 0), notes::argument(None, 600_000, 0));
    let arguments: Vec<&str> =
        (0..slots + 10).map(|index| if index == 0 { &*first } else { &*others }).collect();
    let id = api.submit_one(spec::calls("future", &arguments));
    let next = wait::until("the next one has its slot", || {
        Some(api.task(id, slots)).filter(|task| task.state == State::Running as i32)
    });
    assert_eq!(next.attempt, 1);
    let worker = &api.workers().expect("the worker")[0];
    assert_eq!((worker.running, worker.waiting), (slots, 0), "{worker:?}");
    let counts = api.get(id).expect("the job").counts.expect("its counts");
    assert_eq!((counts.running, counts.queued), (slots, 9), "{counts:?}");
    assert_eq!(api.task(id, slots + 1).attempt, 0, "it has been nowhere");
    api.cancel(&[id]).expect("cancel");
    assert_eq!(api.ended(id).state, State::Cancelled as i32);
}

#[test]
fn what_is_urgent_overtakes_what_was_sent_ahead() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let (api, ledger, gate) = (cluster.api(), Ledger::new(cluster.folder()), cluster.folder().join("gate"));
    let urgent = |priority: i32| pb::JobSpec { priority, ..spec::shell(&ledger.note("start")) };
    // How long tasks of priority 5 take is known, and of priority 7 not.
    let known = api.submit_one(urgent(5));
    assert_eq!(api.ended(known).state, State::Succeeded as i32);

    let low = api.submit_one(spec::array(gated(&ledger, &gate), TASKS));
    wait::holds("one is at the gate", || started(&ledger, low).contains(&GATED));
    sent_ahead(&api);
    let (second, first, last) =
        (api.submit_one(urgent(5)), api.submit_one(urgent(7)), api.submit_one(urgent(5)));
    // A worker is told everything in order: once it has let go of the last one, it has the others.
    api.cancel(&[last]).expect("cancel");
    assert_eq!(api.ended(last).state, State::Cancelled as i32);
    std::fs::write(&gate, "").expect("open the gate");

    for job in [low, first, second] {
        assert_eq!(api.ended(job).state, State::Succeeded as i32);
    }
    let lines: Vec<(u64, u32)> =
        ledger.lines("start").into_iter().map(|(job, task, _)| (job, task)).collect();
    let low = |range: std::ops::Range<u32>| range.map(move |index| (low, index));
    let expected = [(known, 0)].into_iter().chain(low(0..GATED + 1)).chain([(first, 0), (second, 0)]);
    assert_eq!(lines, expected.chain(low(GATED + 1..TASKS)).collect::<Vec<_>>());
}

#[test]
fn a_queue_has_its_turn_although_another_one_fills_the_worker() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let (api, ledger, gate) = (cluster.api(), Ledger::new(cluster.folder()), cluster.folder().join("gate"));
    // As many as take their time, and are cancelled in the end.
    let red = api.submit_one(spec::array(gated(&ledger, &gate), 1_000_000));
    wait::holds("one is at the gate", || started(&ledger, red).contains(&GATED));
    sent_ahead(&api);
    let blue = api.submit_one(pb::JobSpec { queue: "blue".to_owned(), ..spec::shell(&ledger.note("start")) });
    std::fs::write(&gate, "").expect("open the gate");
    assert_eq!(api.ended(blue).state, State::Succeeded as i32);
    assert_eq!(api.get(red).expect("the other job").state, State::Running as i32);
    api.cancel(&[red]).expect("cancel");
    assert_eq!(api.ended(red).state, State::Cancelled as i32);
}

//! The documented exit codes (`taskq --help`), one test per row: scripts depend on them.

use rustix::process::Signal;
use taskq_tests::{Cluster, Setup, Taskq, spec, wait};

fn one_worker() -> Cluster {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    cluster
}

#[test]
fn zero_is_success() {
    let cluster = one_worker();
    assert_eq!(cluster.taskq(&["run", "--", "echo", "hi"]).ok().out(), "hi");
    cluster.taskq(&["submit", "--wait", "--", "true"]).ok();
    cluster.taskq(&["submit", "--wait", "--array", "1-3", "--", "true"]).ok();
    cluster.taskq(&["ls"]).ok();
}

#[test]
fn the_task_s_own_status_comes_through() {
    let cluster = one_worker();
    for status in [1, 3, 42, 123] {
        let script = format!("exit {status}");
        cluster.taskq(&["run", "--", "sh", "-c", &script]).code(status);
    }
    cluster.taskq(&["submit", "--wait", "--", "sh", "-c", "exit 3"]).code(3);
    let id = cluster.taskq(&["submit", "--", "sh", "-c", "exit 7"]).ok().out();
    cluster.taskq(&["wait", &id]).code(7);
    // Long after the end, too.
    cluster.taskq(&["wait", &id]).code(7);
}

#[test]
fn one_says_that_tasks_of_an_array_failed() {
    let cluster = one_worker();
    let odd_fails = "exit $(( $TASKQ_TASK % 2 * 9 ))";
    cluster.taskq(&["submit", "--wait", "--array", "1-4", "--", "sh", "-c", odd_fails]).code(1);
    let id = cluster.taskq(&["submit", "--array", "1-4", "--", "sh", "-c", odd_fails]).ok().out();
    cluster.taskq(&["wait", &id]).code(1);
    cluster.taskq(&["map", "sh", "-c", "exit {}", ":::", "0", "5"]).code(1);
}

#[test]
fn two_is_wrong_usage() {
    let cluster = Cluster::start();
    cluster.taskq(&["submit", "--pirority", "5", "--", "true"]).code(2).says(&["--pirority", "--priority"]);
    cluster.taskq(&["show", "4x"]).code(2).says(&["4x"]);
    cluster.taskq(&["frobnicate"]).code(2);
    cluster.taskq(&["submit"]).code(2);
}

#[test]
fn three_is_not_found() {
    let cluster = Cluster::start();
    cluster.taskq(&["show", "9999"]).code(3).says(&["9999"]);
    cluster.taskq(&["cancel", "9999"]).code(3).says(&["9999"]);
    cluster.taskq(&["result", "9999"]).code(3).says(&["9999"]);
    cluster.taskq(&["logs", "9999"]).code(3).says(&["9999"]);
    cluster.taskq(&["worker", "show", "nobody"]).code(3).says(&["nobody"]);
}

#[test]
fn four_is_a_filter_that_matched_nothing() {
    let cluster = Cluster::start();
    cluster.taskq(&["cancel", "-q", "nowhere", "-y"]).code(4);
    cluster.taskq(&["cancel", "-q", "nowhere", "-y", "--allow-empty"]).code(0);
}

#[test]
fn five_is_a_conflict() {
    let cluster = Cluster::start();
    let first = cluster.taskq(&["submit", "--idempotency-key", "k", "--", "true"]).ok().out();
    let again = cluster.taskq(&["submit", "--idempotency-key", "k", "--", "true"]).ok().out();
    assert_eq!(first, again, "the same key and payload are the same job");
    cluster.taskq(&["submit", "--idempotency-key", "k", "--", "false"]).code(5);
    cluster.taskq(&["rm", &first, "-y"]).code(5).says(&[&first]);
}

#[test]
fn six_is_cancelled() {
    let cluster = one_worker();
    let id = cluster.taskq(&["submit", "--array", "1-2", "--", "sleep", "600"]).ok().out();
    cluster.taskq(&["cancel", &id, "-y"]).ok();
    cluster.taskq(&["wait", &id]).code(6);
    cluster.taskq(&["wait", &format!("{id}.0")]).code(6);
    // One task is no other case than many, whether it had started or not.
    let api = cluster.api();
    for slots in ["1", "9"] {
        let id = cluster.taskq(&["submit", "--cpus", slots, "--", "sleep", "600"]).ok().number();
        if slots == "1" {
            api.running(id);
        }
        cluster.taskq(&["cancel", &id.to_string()]).ok();
        cluster.taskq(&["wait", &id.to_string()]).code(6).says(&["was cancelled"]);
        cluster.taskq(&["wait", &format!("{id}.0")]).code(6);
    }
    let run = cluster.cli(&["run", "--", "sh", "-c", "echo started; exec sleep 600"]).start();
    wait::holds("the task has started", || run.stdout().contains("started"));
    cluster.taskq(&["cancel", "last"]).ok();
    run.end().code(6).says(&["was cancelled"]);
}

#[test]
fn sixty_nine_is_an_unreachable_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let port = taskq_tests::cluster::free_port();
    for words in [&["ls"][..], &["submit", "--", "true"], &["cancel", "1", "-y"]] {
        let run = Taskq::new(folder.path(), words)
            .env("TASKQ_ADDR", format!("127.0.0.1:{port}"))
            .env("TASKQ_TOKEN", "tq_00000000000000000000000000000000")
            .run();
        run.code(69).says(&[&port.to_string(), "taskq up", "taskq-server"]);
    }
}

#[test]
fn seventy_five_is_a_data_directory_in_use() {
    let cluster = Cluster::start();
    let (code, said) = Setup::new().data(&cluster.data()).refused();
    assert_eq!(code, 75, "{said}");
    assert!(said.contains(&cluster.server_pid().to_string()), "names the other server's pid: {said}");
}

#[test]
fn seventy_seven_is_a_wrong_token() {
    let cluster = Cluster::start();
    let address = cluster.access().address;
    let wrong = |words: &[&str]| {
        let run = Taskq::new(cluster.folder(), words);
        run.env("TASKQ_ADDR", &address).env("TASKQ_TOKEN", "tq_wrong").run()
    };
    wrong(&["ls"]).code(77).says(&["token"]);
    wrong(&["submit", "--", "true"]).code(77).says(&["token"]);
}

#[test]
fn seventy_eight_is_a_wrong_configuration() {
    let (code, said) = Setup::new().flags(&["--listen", "0.0.0.0:0"]).refused();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("--insecure-plaintext"), "{said}");
}

#[test]
fn a_hundred_and_twenty_four_is_a_timeout() {
    let cluster = one_worker();
    cluster.taskq(&["run", "--timeout", "200ms", "--", "sleep", "600"]).code(124);
    let id = cluster.taskq(&["submit", "--timeout", "200ms", "--", "sleep", "600"]).ok().out();
    cluster.taskq(&["wait", &id]).code(124);
}

#[test]
fn a_hundred_and_twenty_five_is_taskq_s_own_failure_in_run() {
    let folder = tempfile::tempdir().unwrap();
    let port = taskq_tests::cluster::free_port();
    let run = Taskq::new(folder.path(), &["run", "--", "true"])
        .env("TASKQ_ADDR", format!("127.0.0.1:{port}"))
        .env("TASKQ_TOKEN", "tq_00000000000000000000000000000000")
        .run();
    run.code(125).says(&[&port.to_string(), "taskq up"]);
}

#[test]
fn commands_that_stay_tell_taskq_s_own_failures_apart_from_the_task_s() {
    let cluster = Cluster::start();
    let address = cluster.access().address;
    cluster.taskq(&["submit", "--idempotency-key", "k", "--", "true"]).ok();
    let denied = |words: &[&str]| {
        let run = Taskq::new(cluster.folder(), words);
        run.env("TASKQ_ADDR", &address).env("TASKQ_TOKEN", "tq_wrong").run()
    };
    for words in [
        &["run", "--", "true"][..],
        &["submit", "--wait", "--", "true"],
        &["submit", "--follow", "--array", "1-3", "--", "true"],
        &["wait", "1"],
        &["wait", "1", "2"],
        &["wait", "1.0"],
    ] {
        denied(words).code(125).says(&["token"]);
    }
    denied(&["map", "true", ":::", "a"]).code(77);
    let taken = ["submit", "--idempotency-key", "k", "--wait", "--", "false"];
    cluster.taskq(&taken).code(125).says(&["belongs to job 1"]);
    cluster.taskq(&["wait", "9999"]).code(3).says(&["9999"]);
    cluster.taskq(&["wait", "9999", "9998"]).code(3).says(&["9999"]);
}

#[test]
fn a_hundred_and_twenty_six_is_a_program_that_cannot_be_executed() {
    let cluster = one_worker();
    let plain = cluster.folder().join("plain");
    std::fs::write(&plain, "not a program").unwrap();
    let path = plain.to_str().unwrap();
    cluster.taskq(&["run", "--", path]).code(126).says(&[path, "w0"]);
    cluster.taskq(&["run", "--", cluster.folder().to_str().unwrap()]).code(126).says(&["w0"]);
}

#[test]
fn a_hundred_and_twenty_seven_is_a_program_that_is_not_there() {
    let cluster = one_worker();
    cluster.taskq(&["run", "--", "no-such-program"]).code(127).says(&["no-such-program", "w0"]);
    cluster.taskq(&["run", "--", "/no/such/program"]).code(127).says(&["/no/such/program", "w0"]);
}

#[test]
fn a_signal_is_a_hundred_and_twenty_eight_and_more() {
    let cluster = one_worker();
    for (name, number) in [("KILL", 9), ("TERM", 15), ("SEGV", 11)] {
        let script = format!("kill -{name} $$");
        cluster.taskq(&["run", "--", "sh", "-c", &script]).code(128 + number);
    }
}

#[test]
fn ctrl_c_is_a_hundred_and_thirty_and_waiting_detaches() {
    let cluster = one_worker();
    let id = cluster.taskq(&["submit", "--", "sleep", "600"]).ok().number();
    let api = cluster.api();
    api.running(id);
    let waiting = cluster.cli(&["wait", &id.to_string()]).start();
    // Before that a signal would end it, or, where signals are ignored from the start, be lost.
    wait::holds("taskq wait listens for Ctrl-C", || catches_ctrl_c(waiting.pid()));
    waiting.signal(Signal::INT);
    waiting.end().code(130);
    assert_eq!(api.get(id).unwrap().state, taskq_proto::v1::State::Running as i32, "the job goes on");
    assert!(!spec::is_terminal(api.get(id).unwrap().state));
    cluster.taskq(&["cancel", &id.to_string(), "-y"]).ok();

    let running = cluster.cli(&["run", "--", "sh", "-c", "echo started; exec sleep 600"]).start();
    wait::holds("the task has started", || running.stdout().contains("started"));
    running.signal(Signal::INT);
    running.end().code(130);
}

/// Whether a process has a handler for SIGINT: its bit in the mask of caught signals.
fn catches_ctrl_c(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask & (1 << (Signal::INT.as_raw() - 1)) != 0
}

//! The main job: submit here, run there, get the result, lose nothing.

use taskq_proto::v1::State;
use taskq_tests::{Cluster, Daemon, Ledger, Setup, binaries, cluster, daemon, procs, spec, wait};

#[test]
fn a_job_is_submitted_run_and_answered() {
    let mut cluster = Cluster::start();
    // Submitted before there is any worker.
    let id = cluster.taskq(&["submit", "--", "sh", "-c", "echo out; echo err >&2; exit 4"]).ok().out();
    cluster.taskq(&["explain", &id]).ok();
    cluster.worker(1);
    cluster.taskq(&["wait", &id]).code(4);

    let result = cluster.taskq(&["result", &id]).code(4);
    assert_eq!(result.out(), "out", "{result}");
    let logs = cluster.taskq(&["logs", &id]).ok();
    assert!(logs.out().contains("out"), "{logs}");
    let shown = cluster.taskq(&["show", &id, "--json"]).ok().json();
    assert!(shown.to_string().contains("failed"), "{shown}");

    let task = cluster.api().task(id.parse().unwrap(), 0);
    let outcome = task.outcome.unwrap();
    assert_eq!((outcome.exit_code, outcome.attempt, outcome.worker.as_str()), (4, 1, "w0"));
    assert_eq!((&outcome.stdout[..], &outcome.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    let usage = outcome.usage.unwrap();
    assert!(usage.wall_us > 0 && usage.peak_rss_bytes > 0, "{usage:?}");
}

#[test]
fn everything_survives_a_restart() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let done = cluster.taskq(&["submit", "--wait", "--", "sh", "-c", "echo kept; exit 9"]).code(9).number();
    let array = cluster.taskq(&["submit", "--wait", "--array", "10-14", "--", "echo", "{}"]).ok().number();
    let paused = cluster.taskq(&["submit", "-q", "later", "--", "echo", "late"]);
    let late = paused.ok().number();
    cluster.api().ended(late);
    cluster.taskq(&["queue", "pause", "later"]).ok();
    let waiting = cluster.taskq(&["submit", "-q", "later", "--", "echo", "waited"]).ok().number();
    let before = cluster.access();

    let stopped = cluster.stop_server();
    assert!(stopped.as_secs() < 5, "SIGTERM took {stopped:?}");
    cluster.tolerate("coordinator");
    cluster.start_server();

    assert_eq!(cluster.access(), before, "address and token stay");
    cluster.taskq(&["wait", &done.to_string()]).code(9);
    assert_eq!(cluster.taskq(&["result", &done.to_string()]).out(), "kept");
    let api = cluster.api();
    let ends = api.ends(array).unwrap();
    let mut outputs: Vec<String> = Vec::new();
    for task in &ends {
        let outcome = task.outcome.as_ref().unwrap();
        outputs.push(String::from_utf8(outcome.stdout.to_vec()).unwrap().trim().to_owned());
    }
    outputs.sort();
    assert_eq!(outputs, ["10", "11", "12", "13", "14"]);
    let blocked = api.get(waiting).unwrap();
    assert_eq!(blocked.state, State::Blocked as i32, "the queue is still paused: {blocked:?}");
    cluster.taskq(&["queue", "resume", "later"]).ok();
    assert_eq!(api.ended(waiting).state, State::Succeeded as i32);
}

#[test]
fn the_coordinator_stops_in_5_s_whoever_is_connected() {
    let mut cluster = Setup::new().tolerate("coordinator").start();
    cluster.worker(1);
    // A client that holds its connection and does not react to a farewell.
    let deaf = cluster.api();
    deaf.stats().unwrap();
    let waiting = cluster.cli(&["submit", "--wait", "--", "sleep", "600"]).start();
    wait::holds("the task runs", || deaf.stats().is_ok_and(|stats| stats.tasks_running == 1));
    let stopped = cluster.stop_server();
    assert!(stopped.as_secs() < 5, "SIGTERM took {stopped:?}");
    drop(waiting);
}

#[test]
fn a_running_task_goes_on_while_the_coordinator_is_down() {
    let mut cluster = Setup::new().tolerate("coordinator").start();
    cluster.worker(1);
    let ledger = Ledger::new(cluster.folder());
    let gate = cluster.folder().join("gate");
    let script = format!(
        "{}; until [ -e {} ]; do sleep 0.02; done; {}; echo result",
        ledger.note("start"),
        gate.display(),
        ledger.note("end")
    );
    let api = cluster.api();
    let id = api.submit_one(spec::shell(&script));
    wait::holds("the task has started", || !ledger.lines("start").is_empty());
    cluster.kill_server();
    std::fs::write(&gate, "").unwrap();
    wait::holds("the task ends while nobody listens", || !ledger.lines("end").is_empty());
    cluster.start_server();
    let api = cluster.api();
    assert_eq!(api.ended(id).state, State::Succeeded as i32);
    let task = api.task(id, 0);
    assert_eq!(task.attempt, 1, "no attempt is charged: {task:?}");
    assert_eq!(task.earlier.len(), 0, "{task:?}");
    assert_eq!(&task.outcome.unwrap().stdout[..], b"result\n");
    assert_eq!(ledger.lines("start"), [(id, 0, 1)], "it ran once");
}

#[test]
fn workers_may_start_before_the_coordinator() {
    let mut cluster = Setup::new().tolerate("no coordinator").start();
    cluster.kill_server();
    cluster.launch_worker(0, 1, &[]);
    cluster.start_server();
    assert_eq!(cluster.taskq(&["run", "--", "echo", "hi"]).ok().out(), "hi");
}

#[test]
fn jobs_go_where_labels_and_resources_are() {
    let mut cluster = Cluster::start();
    cluster.worker_with(2, &["--label", "zone=a"]);
    cluster.worker_with(2, &["--label", "zone=b", "--resource", "gpu=1"]);
    let on = |words: &[&str]| {
        let mut all = vec!["run"];
        all.extend(words);
        all.extend(["--", "sh", "-c", "echo $TASKQ_WORKER"]);
        cluster.taskq(&all).ok().out()
    };
    assert_eq!(on(&["--on", "zone=a"]), "w0");
    assert_eq!(on(&["--on", "zone=b"]), "w1");
    assert_eq!(on(&["--resource", "gpu=1"]), "w1");
    let never = cluster.taskq(&["submit", "--resource", "gpu=2", "--", "true"]).ok().out();
    let why = cluster.taskq(&["explain", &never]).ok();
    assert!(why.out().contains("gpu"), "{why}");
}

#[test]
fn a_job_can_be_cancelled_retried_and_removed() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let id = cluster.taskq(&["submit", "--", "sh", "-c", "exec sleep 600"]).ok().number();
    let api = cluster.api();
    api.running(id);
    cluster.taskq(&["cancel", &id.to_string(), "-y"]).ok();
    assert_eq!(api.ended(id).state, State::Cancelled as i32);

    let flaky = cluster.folder().join("flaky");
    let script = format!("[ -e {0} ] || [ $TASKQ_TASK = 0 ]", flaky.display());
    let array = spec::array(spec::shell(&script), 3);
    let failed = api.submit_one(array);
    assert_eq!(api.ended(failed).state, State::Failed as i32);
    std::fs::write(&flaky, "").unwrap();
    let again = cluster.taskq(&["retry", &failed.to_string(), "-y"]).ok();
    let anew = api.list(Default::default()).unwrap().into_iter().find(|job| job.rerun_of == failed);
    let anew = anew.unwrap_or_else(|| panic!("no job is the rerun of {failed}\n{again}"));
    let ended = api.ended(anew.id);
    assert_eq!(
        (ended.state, ended.counts.unwrap().total),
        (State::Succeeded as i32, 2),
        "only the failed two"
    );
    let indices: Vec<u32> = api.tasks(anew.id).unwrap().iter().map(|task| task.index).collect();
    assert_eq!(indices, [1, 2], "with their own numbers");

    cluster.taskq(&["rm", &failed.to_string(), "-y"]).ok();
    cluster.taskq(&["show", &failed.to_string()]).code(3);
}

#[test]
fn local_needs_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let local = |words: &[&str]| taskq_tests::Taskq::new(folder.path(), words).run();
    assert_eq!(local(&["--local", "run", "--", "echo", "here"]).ok().out(), "here");
    local(&["--local", "run", "--", "sh", "-c", "exit 5"]).code(5);
    // A command that only looks starts nothing, and so kills nothing.
    let id = local(&["--local", "submit", "--", "sleep", "1"]).ok().number().to_string();
    local(&["--local", "ls"]).ok();
    local(&["--local", "show", &id]).ok();
    local(&["--local", "wait", &id]).ok();
    let shown = local(&["--local", "show", &id, "--json"]).ok().json();
    assert_eq!(shown["tasks"][0]["outcome"]["attempt"], 1, "{shown}");
    // What was acknowledged is still there for the next one.
    let jobs = local(&["--local", "ls", "--json"]).ok().json();
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(3), "{jobs}");
}

#[test]
fn a_killed_taskq_up_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let taskq = |words: &[&str]| taskq_tests::Taskq::new(folder.path(), words);
    let up = taskq(&["up", "--listen", "127.0.0.1:0", "--slots", "1", "--json"]).start();
    // It says where it is, and then there is somebody to talk to.
    let started: serde_json::Value =
        wait::until("it says where it is", || serde_json::from_str(&up.stdout()).ok());
    assert_eq!(started["schema"], "taskq.v1.up", "{started}");
    let begun = folder.path().join("begun");
    let script = format!("touch {}; exec sleep 600", begun.display());
    taskq(&["submit", "--", "sh", "-c", &script]).run().ok();
    wait::holds("the task runs", || begun.exists());

    let below = procs::descendants(up.pid());
    assert!(below.len() >= 2, "its spawner and the task: {below:?}");
    up.signal(rustix::process::Signal::KILL);
    up.end().code(137);
    // The coordinator is gone as well: the spawner has nobody to tell, and does not look for it.
    let limit = std::time::Duration::from_secs(10);
    wait::until_within(limit, "its spawner and the task are gone", || {
        below.iter().all(|process| !process.lives()).then_some(())
    });
}

#[test]
fn a_worker_drains_on_sigterm() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let gate = cluster.folder().join("gate");
    let script = format!("until [ -e {} ]; do sleep 0.02; done; echo done", gate.display());
    let api = cluster.api();
    let running = api.submit_one(spec::shell(&script));
    api.running(running);
    let queued = api.submit_one(spec::command(&["true"]));
    cluster.worker_at(0).signal(rustix::process::Signal::TERM);
    wait::holds("the worker is draining", || cluster.worker_at(0).log().contains("draining"));
    std::fs::write(&gate, "").unwrap();
    assert_eq!(cluster.worker_at(0).end().code(), Some(0));
    assert_eq!(api.ended(running).state, State::Succeeded as i32);
    assert_eq!(api.get(queued).unwrap().state, State::Queued as i32, "it took nothing new");
    cluster.worker(1);
    assert_eq!(api.ended(queued).state, State::Succeeded as i32);
    assert_eq!(api.task(queued, 0).outcome.unwrap().kind, taskq_proto::v1::outcome::Kind::Exited as i32);
}

#[test]
fn a_worker_that_drains_is_given_nothing_in_its_free_slots() {
    let mut cluster = Setup::new().tolerate("coordinator").start();
    cluster.worker(2);
    let gate = cluster.folder().join("gate");
    let script = format!("until [ -e {} ]; do sleep 0.02; done; echo done", gate.display());
    let api = cluster.api();
    let running = api.submit_one(spec::shell(&script));
    api.running(running);
    cluster.worker_at(0).signal(rustix::process::Signal::TERM);
    let drains = |api: &taskq_tests::Api| {
        let draining = taskq_proto::v1::worker::Status::Draining as i32;
        api.workers().is_ok_and(|all| all.len() == 1 && all[0].status == draining)
    };
    wait::holds("the coordinator knows that it drains", || drains(&api));
    // The next coordinator hears it with the first word.
    cluster.kill_server();
    cluster.start_server();
    let api = cluster.api();
    wait::holds("the worker is back, and drains", || drains(&api));
    let queued = api.submit_one(spec::command(&["true"]));
    cluster.worker(1);
    assert_eq!(api.ended(queued).state, State::Succeeded as i32);
    let task = api.task(queued, 0);
    assert_eq!((task.worker.as_str(), task.attempt), ("w1", 1), "{task:?}");
    std::fs::write(&gate, "").unwrap();
    assert_eq!(cluster.worker_at(0).end().code(), Some(0));
    assert_eq!(api.task(running, 0).attempt, 1);
}

#[test]
fn a_worker_that_an_operator_drains_says_so_and_ends() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    cluster.taskq(&["worker", "drain", "w0"]).ok();
    assert_eq!(cluster.worker_at(0).end().code(), Some(0));
    let said = cluster.worker_at(0).log();
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains("drained") && last.contains("operator"), "{said}");
    cluster.worker(1);
    cluster.worker_at(1).signal(rustix::process::Signal::TERM);
    assert_eq!(cluster.worker_at(1).end().code(), Some(0));
    let said = cluster.worker_at(1).log();
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains("drained") && last.contains("told to stop"), "{said}");
}

#[test]
fn taskq_up_goes_on_when_its_worker_was_drained() {
    let folder = tempfile::tempdir().unwrap();
    let taskq = |words: &[&str]| taskq_tests::Taskq::new(folder.path(), words);
    let up = taskq(&["up", "--listen", "127.0.0.1:0", "--slots", "1", "--json"]).start();
    wait::until("it says where it is", || serde_json::from_str::<serde_json::Value>(&up.stdout()).ok());
    taskq(&["run", "--", "echo", "before"]).run().ok();

    taskq(&["worker", "drain", "local"]).run().ok();
    wait::holds("it says that its worker was drained", || up.stderr().contains("was drained"));
    let advice = up.stderr();
    assert!(advice.contains("taskq-worker") && advice.contains("Ctrl-C"), "it says what to do: {advice}");

    let id = taskq(&["submit", "--", "echo", "after"]).run().ok().out();
    let mut command = daemon::leashed(&binaries::worker());
    command.args(["--name", "elsewhere"]).current_dir(folder.path());
    cluster::clean(&mut command, folder.path());
    let _worker = Daemon::start("worker", &folder.path().join("worker.log"), command);
    taskq(&["wait", &id]).run().ok();
    assert_eq!(taskq(&["result", &id]).run().ok().out(), "after");

    up.signal(rustix::process::Signal::INT);
    up.end().ok();
}

#[test]
fn the_way_to_another_coordinator_is_kept() {
    let cluster = Cluster::start();
    let home = cluster.folder().join("home");
    let data = home.join(".local/share/taskq");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::copy(cluster.access_file(), data.join("access.toml")).unwrap();
    let before = std::fs::read(data.join("access.toml")).unwrap();
    let taskq = |words: &[&str]| cluster.cli(words).without("TASKQ_ACCESS").env("HOME", &home).run();
    taskq(&["up"]).code(78).says(&["access.toml", "--data"]);
    assert_eq!(taskq(&["--local", "run", "--", "echo", "here"]).ok().out(), "here");
    assert_eq!(std::fs::read(data.join("access.toml")).unwrap(), before, "nothing was written over it");
    taskq(&["ls"]).ok();
}

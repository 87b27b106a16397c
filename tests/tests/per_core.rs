//! `taskq-worker --per-core`: a worker for each core, held to it; looked after, drained and ended as one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use rustix::process::Signal;
use taskq_tests::{Cluster, Daemon, Manager, Setup, binaries, daemon, procs, spec, wait};

#[test]
fn each_task_runs_on_the_core_of_its_worker() {
    let cluster = cluster();
    let (_supervisor, names) = per_core(&cluster, &[]);
    let cores = cores();
    assert_eq!(names.len(), cores.len(), "a worker for each of {cores:?}");

    assert_eq!(names[0], "pc-0");
    // Long enough that one worker does not do it all.
    let script = "sleep 0.2; echo $TASKQ_WORKER $(grep Cpus_allowed_list /proc/self/status) # {}";
    let elements: Vec<String> = (0..4 * cores.len()).map(|n| n.to_string()).collect();
    let words: Vec<&str> =
        ["map", "-c", script, ":::"].into_iter().chain(elements.iter().map(String::as_str)).collect();
    let run = cluster.taskq(&words).ok();
    let mut seen = BTreeSet::new();
    for line in run.out().lines() {
        let (worker, rest) = line.split_once(' ').expect("a name and a list");
        let number: usize = worker.strip_prefix("pc-").and_then(|n| n.parse().ok()).expect("a number");
        assert_eq!(rest, format!("Cpus_allowed_list: {}", cores[number]), "{line}");
        seen.insert(worker.to_owned());
    }
    assert_eq!(seen.len(), names.len(), "each had some: {run}");
    let (api, workers) = (cluster.api(), names.len() as u64);
    assert_eq!(u64::from(api.stats().unwrap().slots), workers, "one slot each");
}

#[test]
fn who_dies_is_started_again() {
    let mut cluster = cluster();
    cluster.tolerate("died; starting it again");
    let (supervisor, names) = per_core(&cluster, &[]);
    let first = worker_processes(&supervisor)[&names[0]];
    kill(first.pid, Signal::KILL);
    let again = wait::until("another one is there", || {
        worker_processes(&supervisor).get(&names[0]).copied().filter(|now| *now != first)
    });
    assert!(again.lives());
    let api = cluster.api();
    wait::holds("it is online", || online(&api, &names));
    assert!(supervisor.log().contains("died; starting it again name=\"pc-0\""), "{}", supervisor.log());
    cluster.taskq(&["run", "--", "true"]).ok();
}

#[test]
fn all_drain_when_one_is_told() {
    let cluster = cluster();
    let manager = Manager::new(cluster.folder());
    let (mut supervisor, names) = per_core(&cluster, &[("NOTIFY_SOCKET", manager.path())]);
    manager.hears("READY=1");
    manager.hears(&format!("STATUS={0} of {0} workers run, one per core", names.len()));
    let gate = |job: u64| cluster.folder().join(format!("gate-{job}"));
    let script = "mkfifo gate-$TASKQ_JOB; cat gate-$TASKQ_JOB";
    let api = cluster.api();
    let jobs: Vec<u64> = names.iter().map(|_| api.submit_one(spec::shell(script))).collect();
    wait::holds("each runs one", || jobs.iter().all(|job| gate(*job).exists()));
    let processes = procs::descendants(supervisor.pid());

    supervisor.signal(Signal::TERM);
    manager.hears(&format!("STATUS=draining, {0} of {0} workers run, one per core", names.len()));
    jobs.iter().for_each(|job| fs::write(gate(*job), "go\n").unwrap());
    manager.hears("STOPPING=1");
    assert_eq!(supervisor.end().code(), Some(0), "{}", supervisor.log());
    for job in jobs {
        cluster.taskq(&["wait", &job.to_string()]).ok();
        assert_eq!(cluster.api().task(job, 0).attempt, 1, "drained, not given back");
    }
    wait::holds("nothing is left", || processes.iter().all(|process| !process.lives()));
}

#[test]
fn the_workers_go_when_the_supervisor_is_killed() {
    let mut cluster = cluster();
    cluster.tolerate("");
    let (mut supervisor, _) = per_core(&cluster, &[]);
    let processes = procs::descendants(supervisor.pid());
    assert!(processes.len() >= 2 * cores().len(), "workers and their spawners: {processes:?}");
    supervisor.kill();
    wait::holds("all have drained", || processes.iter().all(|process| !process.lives()));
}

#[test]
fn what_all_would_end_with_ends_all() {
    let mut cluster = cluster();
    cluster.tolerate("");
    let mut supervisor = start(&cluster, &[("TASKQ_TOKEN", "wrong")], &["--addr", &cluster.access().address]);
    assert_eq!(supervisor.end().code(), Some(77), "{}", supervisor.log());

    let run = Command::new(binaries::worker()).args(["--per-core", "--slots", "2"]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!((run.status.code(), said.contains("--slots")), (Some(2), true), "{said}");
}

/// One whose workers may outlive it for a moment: they drain when their supervisor is killed at the end of a test.
fn cluster() -> Cluster {
    Setup::new().tolerate("no coordinator").start()
}

/// The cores that this test, and so its workers, may use.
fn cores() -> Vec<usize> {
    let allowed = rustix::thread::sched_getaffinity(None).expect("cores");
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect()
}

/// Starts them and waits until all are there.
#[track_caller]
fn per_core(cluster: &Cluster, env: &[(&str, &str)]) -> (Daemon, Vec<String>) {
    let file = cluster.access_file();
    let env: Vec<(&str, &str)> =
        env.iter().copied().chain([("TASKQ_ACCESS", file.to_str().expect("a path of ours"))]).collect();
    let mut supervisor = start(cluster, &env, &[]);
    let names: Vec<String> = (0..cores().len()).map(|number| format!("pc-{number}")).collect();
    let api = cluster.api();
    wait::holds("the workers are online", || online(&api, &names) || supervisor.ended().is_some());
    assert!(supervisor.ended().is_none(), "{}", supervisor.log());
    (supervisor, names)
}

fn start(cluster: &Cluster, env: &[(&str, &str)], flags: &[&str]) -> Daemon {
    let mut command = daemon::leashed(&binaries::worker());
    command.args(["--per-core", "--name", "pc"]).args(flags);
    taskq_tests::cluster::clean(&mut command, cluster.folder());
    command.envs(env.iter().copied()).current_dir(cluster.folder());
    Daemon::start("the supervisor", &cluster.folder().join("supervisor.log"), command)
}

fn online(api: &taskq_tests::Api, names: &[String]) -> bool {
    let online = api.workers().unwrap_or_default().into_iter().filter(|worker| worker.status == 1);
    let mut online: Vec<String> = online.map(|worker| worker.name).collect();
    online.sort();
    online == names
}

/// By name, as the supervisor said it.
fn worker_processes(supervisor: &Daemon) -> BTreeMap<String, procs::Process> {
    let log = supervisor.log();
    let started = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once("started name=\"")?;
        let (name, pid) = rest.split_once("\" pid=")?;
        Some((name.to_owned(), procs::find(pid.trim().parse().ok()?)?))
    });
    started.collect()
}

fn kill(pid: u32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("signal a worker");
}

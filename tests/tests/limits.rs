//! Limits that the kernel keeps for one task: memory, processor time, processes; what is told of them, and that nothing of
//! them is left behind. They need control groups that root may make.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use taskq_proto::v1 as pb;
use taskq_tests::{Cluster, FakeWorker, need, procs, spec, wait};

const MIB: u64 = 1 << 20;
/// Takes 200 MiB and touches them.
const GREEDY: &str = "bytearray(200 << 20)";

#[test]
fn who_needs_more_memory_is_killed_with_its_children_and_told_so() {
    let Some(mut cluster) = limited_cluster() else { return };
    cluster.worker(3);
    let neighbour = cluster.folder().join("neighbour");
    let script = format!("mkfifo {0}; cat {0}", neighbour.display());
    let neighbour_job = cluster.taskq(&["submit", "--max-memory", "64MiB", "-c", &script]).ok().number();
    wait::holds("the neighbour runs", || neighbour.exists());

    // A child that would live on is in the same group.
    let python = format!("import subprocess; subprocess.Popen(['sleep', '1000']); {GREEDY}");
    let run = cluster.taskq(&[
        "run",
        "--max-memory",
        "64MiB",
        "--env",
        "MARK=greedy",
        "--",
        "python3",
        "-c",
        &python,
    ]);
    let run = run.code(137).says(&["killed: memory limit 64 MiB"]);
    assert!(procs::marked("MARK", "greedy").is_empty(), "its child lives: {run}");

    // Of a shell's child the shell tells, and so do we.
    let script = format!("python3 -c '{GREEDY}'; exit 3");
    let run = cluster.taskq(&["run", "--max-memory", "64MiB", "-c", &script]);
    run.code(3).says(&["exit 3: a process of it was killed: memory limit 64 MiB"]);

    let job = cluster
        .taskq(&[
            "submit",
            "--max-memory",
            "64MiB",
            "--retries",
            "1",
            "--backoff",
            "fixed:10ms",
            "--",
            "python3",
            "-c",
            GREEDY,
        ])
        .ok()
        .number();
    cluster
        .taskq(&["wait", &job.to_string()])
        .code(137)
        .says(&["killed: memory limit 64 MiB", "attempt 2/2"]);
    let shown = cluster.taskq(&["show", &format!("{job}.0")]).ok().out();
    assert_eq!(shown.matches("    killed: memory limit 64 MiB").count(), 2, "both attempts: {shown}");
    assert!(cluster.taskq(&["tasks", &job.to_string()]).ok().out().contains("killed: memory limit"));
    assert!(cluster.taskq(&["show", &job.to_string()]).ok().out().contains("memory 64.0 MiB"));
    let outcome = cluster.api().task(job, 0).outcome.clone().expect("it has ended");
    assert_eq!((outcome.signal, outcome.out_of_memory), (9, true), "{outcome:?}");

    // As much as it has, it may use.
    cluster.taskq(&["run", "--max-memory", "512MiB", "--", "python3", "-c", GREEDY]).ok();
    fs::write(&neighbour, "fine\n").unwrap();
    cluster.taskq(&["wait", &neighbour_job.to_string()]).ok();
    no_groups_of(&cluster);
}

#[test]
fn no_more_processes_than_allowed() {
    let Some(mut cluster) = limited_cluster() else { return };
    cluster.worker(1);
    let python = "import os, time\nmade = 0\ntry:\n  while made < 100:\n    if os.fork() == 0: time.sleep(1000)\n    made += 1\n\
                  except BlockingIOError: print(made, flush=True); raise SystemExit(4)";
    let run = cluster.taskq(&["run", "--max-processes", "20", "--", "python3", "-c", python]);
    let run = run.code(4).says(&["exit 4: it met its limit of 20 processes: one could not be made"]);
    assert_eq!(run.out(), "19", "it is one of them itself");
    // Nobody asks whether it was met by one that did well without.
    let fine = python.replace("raise SystemExit(4)", "raise SystemExit(0)");
    cluster.taskq(&["run", "--max-processes", "20", "--", "python3", "-c", &fine]).ok();
    no_groups_of(&cluster);
}

#[test]
fn a_busy_task_gets_no_more_of_the_processor() {
    let Some(mut cluster) = limited_cluster() else { return };
    cluster.worker(1);
    let python = "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass";
    let job = cluster
        .taskq(&["submit", "--wait", "--max-cpu", "0.05", "--", "python3", "-c", python])
        .ok()
        .number();
    let usage =
        cluster.api().task(job, 0).outcome.clone().and_then(|outcome| outcome.usage).expect("it has ended");
    let share = (usage.user_us + usage.system_us) as f64 / usage.wall_us as f64;
    // A quota is for each tenth of a second, and the last one may be begun. Without it, even a task on a busy machine has
    // more.
    assert!(share < 0.08, "it had {share:.2} of a core: {usage:?}");
    no_groups_of(&cluster);
}

#[test]
fn a_thousand_tasks_leave_no_group() {
    let Some(mut cluster) = limited_cluster() else { return };
    cluster.worker(4);
    let job = [
        "submit",
        "--wait",
        "--array",
        "1-1000",
        "--max-memory",
        "64MiB",
        "--max-cpu",
        "2",
        "--max-processes",
        "10",
        "--",
        "true",
    ];
    let start = Instant::now();
    cluster.taskq(&job).ok();
    println!("1,000 limited tasks: {:.1} s", start.elapsed().as_secs_f64());
    no_groups_of(&cluster);
}

#[test]
fn what_a_killed_worker_had_is_removed_by_its_spawner_or_by_the_next_worker() {
    let Some(mut cluster) = limited_cluster() else { return };
    // Its name is still taken for a moment.
    cluster.tolerate("trying again");
    cluster.tolerate("lost");
    let number = cluster.worker(1);
    let submit = [
        "submit",
        "--max-memory",
        "64MiB",
        "--max-processes",
        "9",
        "--crash-limit",
        "9",
        "--env",
        "MARK=left",
        "-c",
        "trap '' TERM; sleep 1000 & wait",
    ];
    cluster.taskq(&submit).ok();
    let before =
        wait::until("it runs in its groups", || Some(groups_of(&cluster)).filter(|groups| groups.len() == 2));
    cluster.worker_at(number).kill();
    wait::holds("the spawner has removed them", || before.iter().all(|group| !group.exists()));

    cluster.restart_worker(number, 1, &[]);
    let before =
        wait::until("it runs again", || Some(groups_of(&cluster)).filter(|groups| groups.len() == 2));
    // Nobody is left to remove anything, and a grandchild that the kernel does not end with them.
    let worker = cluster.worker_at(number).pid();
    let spawner = procs::descendants(worker).into_iter().find(|process| {
        fs::read(format!("/proc/{}/cmdline", process.pid))
            .is_ok_and(|line| line.starts_with(b"taskq-spawner"))
    });
    kill(spawner.expect("the worker has a spawner").pid, worker);
    cluster.worker_at(number).kill();
    assert!(before.iter().all(|group| group.exists()), "there is nobody to remove them");
    cluster.restart_worker(number, 1, &[]);
    wait::holds("the next worker has removed them", || before.iter().all(|group| !group.exists()));
}

#[test]
fn a_task_with_limits_waits_for_a_worker_that_keeps_them() {
    let mut cluster = Cluster::start();
    let api = cluster.api();
    let joined = api.block_on(FakeWorker::join(&cluster.access(), "modest", 1, 1));
    let (worker, _) = joined.expect("it is welcome");
    let job =
        cluster.taskq(&["submit", "--max-memory", "64MiB", "--max-cpu", "1", "--", "true"]).ok().number();
    let why = cluster.taskq(&["explain", &job.to_string()]).ok().out();
    assert!(
        why.contains("no worker can limit memory (--max-memory) and processor time (--max-cpu)"),
        "{why}"
    );
    let shown = cluster.taskq(&["worker", "show", "modest"]).ok().out();
    assert!(shown.contains("limits     none"), "{shown}");
    drop(worker);
    if !keeps_limits() {
        return;
    }
    cluster.worker(1);
    cluster.taskq(&["wait", &job.to_string()]).ok();
    let shown = cluster.taskq(&["worker", "show", "w0"]).ok().out();
    assert!(shown.contains("limits     memory cpu processes"), "{shown}");
    assert!(cluster.worker_at(0).log().contains("memory, cpu, processes"), "it says so at its start");
}

#[test]
fn limits_are_checked_where_they_are_typed_and_where_they_arrive() {
    let cluster = Cluster::start();
    for (flags, said) in [
        (["--max-memory", "x"], "is not a size"),
        (["--max-cpu", "0"], "number of cores"),
        (["--max-processes", "0"], "0"),
        (["--max-memory", "1000"], "memory_bytes"),
    ] {
        let run = cluster.taskq(&["submit", flags[0], flags[1], "--", "true"]);
        assert_ne!(run.code, 0, "{run}");
        run.says(&[said]);
    }
    let limits = Some(pb::Limits { memory_bytes: MIB, ..pb::Limits::default() });
    let call = pb::JobSpec { limits, ..spec::call("f", "1") };
    let refused = cluster.api().submit(&spec::request(vec![call])).expect_err("calls share a process");
    assert!(refused.message().contains("commands only"), "{refused}");
}

/// None: the test is skipped, because the kernel keeps no limits here.
fn limited_cluster() -> Option<Cluster> {
    (need::root_and(&["python3"]) && keeps_limits()).then(Cluster::start)
}

fn keeps_limits() -> bool {
    let all = ["memory", "cpu", "pids"].iter().all(|name| tree(name).is_some());
    need::given(all, "it needs control groups of version 1 for memory, cpu and pids")
}

/// Where this process is in a controller's tree; workers are there, too.
fn tree(controller: &str) -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        parts.next()?.split(',').any(|name| name == controller).then(|| parts.next())?
    })?;
    let tree = Path::new("/sys/fs/cgroup").join(controller).join(path.trim_start_matches('/'));
    tree.join("cgroup.procs").is_file().then_some(tree)
}

/// The groups that the spawners below this test have, or had and left.
fn groups() -> BTreeSet<PathBuf> {
    let trees = ["memory", "cpu", "pids"].into_iter().filter_map(tree);
    let entries = trees.flat_map(|tree| fs::read_dir(tree).expect("a tree of groups"));
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("taskq-")))
        .collect()
}

/// Those of this cluster's workers: other tests run at the same time.
fn groups_of(cluster: &Cluster) -> Vec<PathBuf> {
    let spawners: BTreeSet<String> = cluster
        .worker_pids()
        .into_iter()
        .flat_map(procs::descendants)
        .map(|process| format!("-{}-{}-", process.pid, process.started))
        .collect();
    groups()
        .into_iter()
        .filter(|path| spawners.iter().any(|mark| path.to_string_lossy().contains(mark.as_str())))
        .collect()
}

/// Within a moment: an end is told before the kernel has let go of its group.
#[track_caller]
fn no_groups_of(cluster: &Cluster) {
    wait::until_within(Duration::from_secs(5), "no group is left", || {
        groups_of(cluster).is_empty().then_some(())
    });
}

/// Both in one go, so that neither notices the other's end; the worker is reaped by its owner.
fn kill(spawner: u32, worker: u32) {
    let pid = |pid: u32| rustix::process::Pid::from_raw(pid as i32).expect("a process id");
    rustix::process::kill_process(pid(worker), rustix::process::Signal::STOP).expect("stop the worker");
    rustix::process::kill_process(pid(spawner), rustix::process::Signal::KILL).expect("kill the spawner");
}

//! Backup, restore and doctor, with real processes under load: every job that was acknowledged before the backup is there
//! afterwards, what had ended is not run again, what had not ends, and what was given out since is not given out twice.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use taskq_proto::v1 as pb;
use taskq_tests::{
    Api, Cluster, Disk, FakeWorker, Ledger, Run, Seed, Setup, Taskq, fake_worker, load::Load, need, procs,
    spec, taskq::Running, wait,
};

/// The first start after a restore waits this long for workers that the backup does not know, and then some.
const GRACE: Duration = Duration::from_secs(90);
const MIB: u64 = 1 << 20;

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[track_caller]
fn start(cluster: &Cluster, words: &[&str]) -> Running {
    Taskq::server(cluster.folder(), words).start()
}

#[track_caller]
fn run(cluster: &Cluster, words: &[&str]) -> Run {
    start(cluster, words).end()
}

/// Takes a backup of the running coordinator; its path.
#[track_caller]
fn back_up(cluster: &Cluster, name: &str) -> String {
    let file = text(&cluster.folder().join(name));
    run(cluster, &["backup", &file, "--data", &text(&cluster.data())]).ok();
    file
}

fn ended(api: &Api) -> BTreeMap<u64, pb::Job> {
    let jobs = api.list(pb::Filter::default()).unwrap_or_default();
    jobs.into_iter().filter(|job| spec::is_terminal(job.state)).map(|job| (job.id, job)).collect()
}

#[test]
fn what_was_acknowledged_before_a_backup_under_load_is_there_after_a_restore() {
    let mut seed = Seed::new("backup under load");
    let mut cluster = Setup::new().tolerate("coordinator").tolerate("late").start();
    let ledger = Ledger::new(cluster.folder());
    cluster.worker(4);
    let note = ledger.note("run");
    let job = move |seed: &mut Seed| {
        let one = spec::shell(&format!(
            "{note}; echo out of $TASKQ_JOB.$TASKQ_TASK; sleep 0.0{}",
            seed.number(1, 9)
        ));
        match seed.number(1, 4) {
            1 => vec![spec::array(one, seed.number(2, 6) as u32)],
            2 => vec![one.clone(), one],
            _ => vec![one],
        }
    };
    let load = Load::start(&cluster.access(), 3, &mut seed, 30, job);
    let api = cluster.api();
    wait::holds("some jobs have ended", || ended(&api).len() > 60);
    let (acked, before) = (load.acked(), ended(&api));
    let results: BTreeMap<u64, Vec<pb::Task>> =
        before.keys().map(|id| (*id, api.ends(*id).expect("results"))).collect();
    let file = back_up(&cluster, "backup");
    let runs_before = ledger.counts("run");
    wait::holds("it goes on after the backup", || ended(&api).len() > before.len() + 30);
    let all = load.stop();
    assert!(all.len() > acked.len(), "there were jobs after the backup");

    cluster.kill_server();
    fs::rename(cluster.data(), cluster.folder().join("lost")).expect("lose the directory");
    let said = run(&cluster, &["restore", &file, "--data", &text(&cluster.data())]).ok();
    assert!(said.out().contains("the token is the former one"), "{said}");
    let start = Instant::now();
    // The same token: workers come in as before.
    cluster.start_server();
    let api = cluster.api();
    let live = || {
        let jobs = api.list(pb::Filter::default()).expect("list");
        jobs.iter().filter(|job| !spec::is_terminal(job.state)).count()
    };
    wait::until_within(GRACE, "all jobs have ended", || (live() == 0).then_some(()));
    println!("all jobs had ended {:.1} s after the restart", start.elapsed().as_secs_f64());
    let after = ended(&api);
    for id in acked.keys() {
        let job = after.get(id).unwrap_or_else(|| panic!("job {id} was acknowledged before the backup"));
        assert_eq!(job.state, pb::State::Succeeded as i32, "{job:?}");
    }
    let runs = ledger.counts("run");
    for (id, tasks) in &results {
        assert_eq!(&api.ends(*id).expect("results"), tasks, "job {id} with its results and output");
        for task in tasks {
            assert_eq!(runs[&(*id, task.index)], 1, "task {id}.{} had ended and ran again", task.index);
        }
    }
    assert!(runs_before.len() >= results.len());
    // Numbers that were given out after the backup are not given to others.
    let next = cluster.taskq(&["submit", "--", "true"]).ok().number();
    assert!(next > 1_000_000 && !all.contains_key(&next), "{next}");
    println!(
        "{} jobs acknowledged before the backup, {} of them ended; all there",
        acked.len(),
        before.len()
    );
}

#[test]
fn what_workers_ran_after_the_backup_is_fenced_or_taken_up_and_no_attempt_is_used_twice() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut cluster = Setup::new().tolerate("after the backup").start();
    let api = cluster.api();
    let job = api.submit_one(spec::array(spec::command(&["true"]), 2));
    let file = back_up(&cluster, "backup");

    let access = cluster.access();
    let hello = |name: &str, held: Vec<pb::AttemptKey>, incarnation: u64| pb::Hello {
        incarnation,
        name: name.to_owned(),
        version: "fake".to_owned(),
        protocol: 1,
        slots: 1,
        window: 1,
        held,
        ..pb::Hello::default()
    };
    // Two workers that the backup does not know take a task each, and one of a job that it does not know.
    let take = |name: &str, incarnation: u64| {
        let (mut worker, _) =
            runtime.block_on(FakeWorker::greet(&access, hello(name, Vec::new(), incarnation))).unwrap();
        let keys = runtime.block_on(worker.assigned()).unwrap();
        (worker, keys)
    };
    let (_in_time, kept) = take("in-time", 11);
    let (_late, stale) = take("late", 12);
    let unknown_job = api.submit_one(spec::command(&["true"]));
    let (_third, unknown) = take("third", 13);
    assert_eq!((kept[0].job_id, stale[0].job_id, unknown[0].job_id), (job, job, unknown_job));
    assert_eq!((kept[0].attempt, stale[0].attempt), (1, 1));

    cluster.kill_server();
    fs::rename(cluster.data(), cluster.folder().join("lost")).expect("lose the directory");
    run(&cluster, &["restore", &file, "--data", &text(&cluster.data())]).ok();
    cluster.start_server();
    let api = cluster.api();

    // One is back in time: what it runs stays its own, and does not run again.
    let held = [kept.clone(), unknown.clone()].concat();
    let (mut worker, welcome) =
        runtime.block_on(FakeWorker::greet(&access, hello("in-time", held, 11))).unwrap();
    assert_eq!(welcome.abandon, unknown, "a job of which nobody knows any more is abandoned");
    assert!(welcome.epoch > 1_000_000, "no start is counted twice: {}", welcome.epoch);
    assert!(runtime.block_on(worker.report(&kept, &fake_worker::success())));
    runtime.block_on(worker.settled()).unwrap();
    drop(worker);
    assert_eq!(api.task(job, kept[0].index).attempt, 1);

    // The other task is given out once nobody can be waited for any more, under a number that was not used.
    wait::until_within(GRACE, "the wait for unknown workers is over", || {
        api.stats().is_ok_and(|stats| !stats.recovering).then_some(())
    });
    let (mut other, _) =
        runtime.block_on(FakeWorker::greet(&access, hello("other", Vec::new(), 14))).unwrap();
    let again = runtime.block_on(other.assigned()).unwrap();
    assert_eq!((again[0].job_id, again[0].index), (job, stale[0].index));
    assert!(again[0].attempt > 1_000, "far above all that may have been used: {again:?}");
    let (mut late, welcome) =
        runtime.block_on(FakeWorker::greet(&access, hello("late", stale.clone(), 12))).unwrap();
    assert_eq!(welcome.abandon, stale, "who is late is told to stop");
    assert!(runtime.block_on(late.report(&stale, &fake_worker::success())));
    runtime.block_on(late.settled()).unwrap();
    assert!(!spec::is_terminal(api.task(job, stale[0].index).state), "its result is refused");
    // Twice in what a Hello listed, and once as a report.
    assert_eq!(api.stats().unwrap().stale_reports, 3);
    assert!(runtime.block_on(other.report(&again, &fake_worker::success())));
    runtime.block_on(other.settled()).unwrap();
    assert_eq!(api.task(job, stale[0].index).attempt, again[0].attempt);
    api.ended(job);
}

#[test]
fn a_flipped_bit_is_found_by_the_doctor_and_named() {
    let mut seed = Seed::new("a flipped bit");
    let mut cluster = Cluster::start();
    cluster.worker(2);
    for _ in 0..20 {
        cluster.taskq(&["submit", "--array", "1-20", "--", "echo", "{}"]).ok();
    }
    let api = cluster.api();
    wait::holds("all have ended", || ended(&api).len() == 20);
    let file = back_up(&cluster, "backup");
    run(&cluster, &["doctor", &file]).ok();
    let whole = fs::read(&file).unwrap();
    let bad = text(&cluster.folder().join("bad"));
    for _ in 0..12 {
        let at = seed.number(0, whole.len() as u64 - 1);
        let mut bytes = whole.clone();
        bytes[at as usize] ^= 1 << seed.number(0, 7);
        fs::write(&bad, bytes).unwrap();
        let said = run(&cluster, &["doctor", &bad, "--json"]).code(78).says(&["is damaged", "--salvage"]);
        let damages = said.json()["damages"].as_array().unwrap().clone();
        let holds = |damage: &serde_json::Value| {
            damage["from"].as_u64() <= Some(at) && Some(at) <= damage["to"].as_u64()
        };
        assert!(damages.iter().any(holds), "byte {at}: {said}");
        let refused = run(&cluster, &["restore", &bad, "--data", &text(&cluster.folder().join("none"))]);
        refused.code(78).says(&["damaged", "nothing was restored", "doctor"]);
        assert!(!cluster.folder().join("none").exists());
        let saved = text(&cluster.folder().join("saved"));
        run(&cluster, &["doctor", &bad, "--salvage", &saved, "--force"]).code(78).says(&[&saved]);
        run(&cluster, &["doctor", &saved]).ok();
    }
}

#[test]
fn a_damaged_directory_is_refused_with_the_way_out_and_what_can_be_read_of_it_is_saved() {
    let mut cluster = Setup::new().tolerate("no coordinator").start();
    cluster.worker(2);
    // Spread over many parts of the log.
    for _ in 0..30 {
        cluster.taskq(&["submit", "--wait", "--", "sh", "-c", "head -c 20000 /dev/zero | tr '\\0' x"]).ok();
    }
    let data = text(&cluster.data());
    run(&cluster, &["doctor", &data]).code(75).says(&["in use by process"]);
    cluster.stop_server();
    run(&cluster, &["doctor", &data]).ok();
    // In the middle of what the 15th of them said.
    let db = cluster.data().join("sled/db");
    let mut bytes = fs::read(&db).unwrap();
    let text_at: Vec<usize> = bytes
        .windows(64)
        .enumerate()
        .step_by(64)
        .filter(|(_, w)| w.iter().all(|b| *b == b'x'))
        .map(|(at, _)| at)
        .collect();
    bytes[text_at[text_at.len() / 2]] ^= 1;
    fs::write(&db, bytes).unwrap();
    let files = || -> Vec<_> {
        ["sled/db", "acked"].iter().map(|name| fs::read(cluster.data().join(name)).unwrap()).collect()
    };
    let before = files();
    let saved = text(&cluster.folder().join("saved"));
    let said = run(&cluster, &["doctor", &data, "--salvage", &saved]).code(78).says(&["is damaged", &saved]);
    println!("{said}");
    assert!(before == files(), "the doctor has changed nothing");
    let (code, refused) = Setup::new().data(&cluster.data()).refused();
    assert_eq!(code, 78, "{refused}");
    assert!(refused.contains("taskq-server restore") && refused.contains("taskq-server doctor"), "{refused}");

    let new = cluster.folder().join("new");
    run(&cluster, &["restore", &saved, "--data", &text(&new)]).ok();
    let restored = Setup::new().data(&new).start();
    let there = ended(&restored.api()).len();
    assert!((1..=30).contains(&there), "{there} jobs are left");
    println!("{there} of 30 jobs are left after a flipped bit in the log");
}

#[test]
fn a_restore_that_is_killed_is_not_served_and_a_second_one_mends_it() {
    let mut cluster = Cluster::start();
    for _ in 0..10 {
        cluster.api().submit(&spec::request(vec![spec::command(&["true"]); 5_000])).expect("submit");
    }
    let file = back_up(&cluster, "backup");
    cluster.stop_server();
    let data = cluster.folder().join("new");
    let mark = data.join("restoring");
    let restore = || start(&cluster, &["restore", &file, "--data", &text(&data)]);
    let killed = restore();
    wait::holds("it has begun", || mark.exists() && data.join("sled/db").exists());
    killed.signal(Signal::KILL);
    killed.end().code(128 + 9);
    assert!(mark.exists(), "it was killed before its end");
    let (code, refused) = Setup::new().data(&data).refused();
    assert_eq!(code, 78, "{refused}");
    assert!(refused.contains("was cut off") && refused.contains("taskq-server restore"), "{refused}");
    run(&cluster, &["doctor", &text(&data)]).code(78);
    restore().end().ok();
    restore().end().code(73).says(&["is not empty"]);
    let restored = Setup::new().data(&data).start();
    assert_eq!(restored.api().stats().unwrap().jobs_live, 50_000);
}

#[test]
fn a_backup_that_cannot_be_finished_leaves_nothing() {
    let mut cluster = Cluster::start();
    let (data, folder) = (text(&cluster.data()), cluster.folder().join("backups"));
    fs::create_dir(&folder).unwrap();
    let file = text(&folder.join("backup"));
    let left = || fs::read_dir(&folder).unwrap().count();
    cluster.api().submit_one(spec::command(&["true"]));

    // The coordinator is killed in the middle.
    cluster.server().signal(Signal::STOP);
    let waiting = start(&cluster, &["backup", &file, "--data", &data]);
    wait::holds("it has begun", || left() == 1);
    cluster.kill_server();
    waiting.end().code(69).says(&["coordinator", "try again"]);
    assert_eq!(left(), 0);

    // It is stopped by hand.
    cluster.start_server();
    cluster.server().signal(Signal::STOP);
    let waiting = start(&cluster, &["backup", &file, "--data", &data]);
    wait::holds("it has begun", || left() == 1);
    waiting.signal(Signal::TERM);
    waiting.end().code(130).says(&["interrupted"]);
    assert_eq!(left(), 0);
    cluster.server().signal(Signal::CONT);

    // A former one is not lost, and nobody else reads it.
    run(&cluster, &["backup", &file, "--data", &data]).ok();
    run(&cluster, &["backup", &file, "--data", &data]).code(73).says(&["is there already", "--force"]);
    run(&cluster, &["backup", &file, "--data", &data, "--force"]).ok();
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // Through a pipe it is the same kind of file; and a directory that nobody serves has the same jobs.
    let piped = run(&cluster, &["backup", "-", "--access", &text(&cluster.access_file()), "--json"]).ok();
    fs::write(&file, &piped.stdout).unwrap();
    run(&cluster, &["doctor", &file]).ok();
    cluster.stop_server();
    run(&cluster, &["backup", &file, "--data", &data, "--force"]).ok();
    let told = run(&cluster, &["doctor", &file, "--json"]).ok().json();
    assert_eq!(told["jobs"], 1, "{told}");
    run(&cluster, &["backup", &file, "--force", "--data", "nowhere"]).code(78).says(&["holds no store"]);

    if need::root_and(&["mount"]) {
        let disk = Disk::tmpfs(1);
        disk.fill();
        let file = text(&disk.folder().join("backup"));
        run(&cluster, &["backup", &file, "--data", &data]).code(74).says(&["cannot write", &file]);
        assert_eq!(fs::read_dir(disk.folder()).unwrap().count(), 1, "only what fills it");
    }
}

fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the coordinator lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1_024
}

#[test]
fn a_large_backup_takes_little_memory_and_holds_nobody_up() {
    let tasks: u64 = if std::env::var("TASKQ_SOAK").as_deref() == Ok("full") { 1_000_000 } else { 100_000 };
    let mut cluster = Cluster::start();
    let access = cluster.access();
    let api = cluster.api();
    let job = api.submit_one(spec::array(spec::command(&["true"]), tasks as u32));
    for _ in 0..tasks / 20_000 {
        api.submit(&spec::request(vec![spec::call("nobody", "1"); 10_000])).expect("submit");
    }
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (mut worker, _) = FakeWorker::join(&access, "fake", 64, 4_096).await.expect("join");
            // It ends with the coordinator.
            let _ended = worker.work().await;
        });
    });
    wait::until_within(Duration::from_secs(600), "the array is drained", || {
        api.get(job).ok().filter(|job| spec::is_terminal(job.state))
    });
    let submits = |while_it: &mut dyn FnMut() -> bool| {
        let mut times = Vec::new();
        while while_it() {
            let start = Instant::now();
            api.submit_one(spec::call("nobody", "1"));
            times.push(start.elapsed());
        }
        times.sort();
        times
    };
    let mut left = 300;
    let quiet = submits(&mut || {
        left -= 1;
        left > 0
    });
    let before = peak(cluster.server_pid());
    let file = text(&cluster.folder().join("backup"));
    let begun = Instant::now();
    let running = start(&cluster, &["backup", &file, "--data", &text(&cluster.data()), "--json"]);
    let pid = running.pid();
    let busy = submits(&mut || procs::find(pid).is_some_and(procs::Process::lives));
    let took = begun.elapsed();
    let told = running.end().ok().json();
    let grown = peak(cluster.server_pid()).saturating_sub(before);
    let half = |times: &[Duration]| times[times.len() / 2];
    println!(
        "backup of {tasks} tasks that ended and {} jobs: {:.1} s, {} KiB, {} MiB more memory; {} submits meanwhile: median {:?}, \
         longest {:?} (before: {:?}, {:?})",
        told["jobs"],
        took.as_secs_f64(),
        fs::metadata(&file).unwrap().len() >> 10,
        grown / MIB,
        busy.len(),
        half(&busy),
        busy[busy.len() - 1],
        half(&quiet),
        quiet[quiet.len() - 1],
    );
    assert!(grown < 48 * MIB, "{grown} bytes more at the peak");
    assert!(busy[busy.len() - 1] < Duration::from_secs(1), "{:?}", busy[busy.len() - 1]);
    cluster.stop_server();
    worker.join().expect("the fake worker");
    let begun = Instant::now();
    run(&cluster, &["doctor", &file]).ok();
    let (checked, begun) = (begun.elapsed(), Instant::now());
    run(&cluster, &["restore", &file, "--data", &text(&cluster.folder().join("new"))]).ok();
    println!("checked in {:.1} s, restored in {:.1} s", checked.as_secs_f64(), begun.elapsed().as_secs_f64());
}

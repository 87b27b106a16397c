//! Pull the plug: a power cut at a random moment loses nothing that was acknowledged; with the guard switched off the
//! same harness sees loss. A damaged snapshot, a full disk and a failing one are survived or said clearly.

use rustix::process::Signal;
use std::collections::BTreeMap;
use std::path::Path;
use taskq_proto::v1 as pb;
use taskq_tests::load::{Acked, Load};
use taskq_tests::{Api, Cluster, Disk, Seed, Setup, need, notes, procs, spec, wait};

const CUTS: usize = 100;

const FIRST_STARTS: usize = 30;

/// Each disk sees some cuts, then a fresh one takes over: young stores and older ones are both struck.
const CUTS_PER_DISK: usize = 20;

/// What was told about jobs before a cut.
struct Told {
    acked: Acked,
    /// Terminal states that a client has seen.
    ends: BTreeMap<u64, i32>,
    /// Calls that have ended, as a client was told.
    calls: Vec<pb::Task>,
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    if !need::root_and(&["mkfs.ext4", "mount", "losetup"]) {
        return;
    }
    let mut seed = Seed::new("power_cut");
    let (mut cuts, mut compared, mut values) = (0, 0, 0);
    while cuts < CUTS {
        let under = UnderLoad::start(&[], &mut seed);
        for _ in 0..CUTS_PER_DISK {
            let (left, told) = under.cut(&mut seed);
            let lost = survivors(&left, &told)
                .unwrap_or_else(|said| panic!("cut {cuts}: it does not open:\n{said}"));
            assert!(lost.is_empty(), "cut {cuts}: {} of {} are lost: {lost:?}", lost.len(), told.acked.len());
            compared += told.acked.len();
            values += told.calls.len();
            cuts += 1;
        }
        under.stop();
    }
    println!("{cuts} power cuts, {compared} acknowledged jobs and {values} values looked for, none lost");
    assert!(compared > CUTS * 10 && values > CUTS, "the load was real: {compared}");
}

/// A store that is just being made: whatever a cut leaves of it, the next start serves.
#[test]
fn a_power_cut_in_a_first_start_leaves_a_store_that_opens() {
    if !need::root_and(&["mkfs.ext4", "mount", "losetup"]) {
        return;
    }
    let mut seed = Seed::new("power_cut in a first start");
    let (mut young, mut made) = (0, 0);
    for cut in 0..FIRST_STARTS {
        let disk = Disk::ext4(128);
        let data = disk.folder().join("data");
        let mut cluster = Setup::new().data(&data).launch();
        wait::random_moment(seed.millis(1, 60));
        let left = disk.power_cut();
        cluster.kill_server();
        drop(cluster);
        match left.folder().join("data/acked").exists() {
            true => made += 1,
            false => young += usize::from(left.folder().join("data").exists()),
        }
        for _ in 0..2 {
            let mut cluster = Setup::new().data(&left.folder().join("data")).tolerate("").start();
            let id = cluster.api().submit_one(spec::command(&["true"]));
            assert!(id <= 2, "cut {cut}: job {id}");
            cluster.kill_server();
        }
    }
    println!(
        "of {FIRST_STARTS} first starts {young} were cut off while the store was made, {made} after that"
    );
    assert!(young > 0 && made > 0, "the moments were spread over the start");
}

#[test]
fn without_the_guard_the_same_harness_sees_loss() {
    if !need::root_and(&["mkfs.ext4", "mount", "losetup"]) {
        return;
    }
    let mut seed = Seed::new("power_cut without the guard");
    let under = UnderLoad::start(&["--unsafe-no-sync"], &mut seed);
    let seen = (0..10).any(|_| {
        let (left, told) = under.cut(&mut seed);
        !told.acked.is_empty() && survivors(&left, &told).map_or(true, |lost| !lost.is_empty())
    });
    assert!(seen, "10 cuts without syncing lost nothing: this harness cannot see loss");
    under.stop();
}

/// A coordinator on its own disk, with users and a worker.
struct UnderLoad {
    cluster: Cluster,
    load: Load,
    disk: Disk,
}

impl UnderLoad {
    fn start(flags: &[&str], seed: &mut Seed) -> Self {
        let disk = Disk::ext4(128);
        let mut cluster =
            Setup::new().data(&disk.folder().join("data")).flags(flags).tolerate("sync").start();
        cluster.worker_of(&notes::program(), 2, &[]);
        let job = |seed: &mut Seed| {
            if seed.once_in(3) {
                // Half of the values are too long for their outcomes.
                let bytes = *seed.pick(&[7, 50_000]);
                let function = *seed.pick(&notes::FUNCTIONS);
                return vec![spec::call(function, &notes::argument(None, 0, bytes))];
            }
            let mut one = spec::command(&["echo", &"x".repeat(seed.number(1, 400) as usize)]);
            one.name = format!("job of {}", seed.number(0, 9));
            match seed.number(1, 5) {
                1 => vec![spec::array(one, 5)],
                2 => vec![one; seed.number(2, 20) as usize],
                _ => vec![one],
            }
        };
        let load = Load::start(&cluster.access(), 2, seed, 60, job);
        Self { cluster, load, disk }
    }

    /// Lets a random stretch of time pass and cuts the power: the disk as it was left, and what had been told.
    fn cut(&self, seed: &mut Seed) -> (Disk, Told) {
        wait::random_moment(seed.millis(10, 500));
        let api = self.cluster.api();
        let ended = recent_ends(&api);
        let ends = ended.iter().map(|job| (job.id, job.state)).collect();
        let called = |job: &&pb::Job| job.spec.as_ref().is_some_and(|spec| spec.call.is_some());
        let newest = ended.iter().filter(called).take(20);
        let calls = newest.map(|job| api.task(job.id, 0)).collect();
        let pid =
            rustix::process::Pid::from_raw(self.cluster.server_pid() as i32).expect("the coordinator runs");
        rustix::process::kill_process(pid, Signal::STOP).expect("the coordinator runs");
        let server = procs::find(self.cluster.server_pid()).expect("the coordinator runs");
        wait::holds("the coordinator is stopped", || server.state() == Some('T'));
        let acked = self.load.acked();
        let left = self.disk.power_cut();
        rustix::process::kill_process(pid, Signal::CONT).expect("the coordinator runs");
        (left, Told { acked, ends, calls })
    }

    fn stop(self) {
        let Self { cluster, load, disk } = self;
        load.stop();
        drop(cluster);
        drop(disk);
    }
}

/// The newest jobs that have ended, as a client is told.
fn recent_ends(api: &Api) -> Vec<pb::Job> {
    let request = pb::ListRequest { page_size: 200, ..Default::default() };
    let reply = api.call(|mut jobs| async move { jobs.list(request).await }).expect("list before the cut");
    reply.jobs.into_iter().filter(|job| spec::is_terminal(job.state)).collect()
}

/// Opens what a cut left with a new coordinator. The ids that were told and are not there (as they were told), or what
/// it said if it does not open.
fn survivors(left: &Disk, told: &Told) -> Result<Vec<u64>, String> {
    let data = left.folder().join("data");
    let opened = std::panic::catch_unwind(|| Setup::new().data(&data).tolerate("").start());
    let Ok(mut cluster) = opened else { return Err("see the log above".to_owned()) };
    let api = cluster.api();
    let states: BTreeMap<u64, i32> = api
        .list(pb::Filter::default())
        .map_err(|s| s.to_string())?
        .into_iter()
        .map(|job| (job.id, job.state))
        .collect();
    let absent = told.acked.keys().filter(|id| !states.contains_key(id)).copied();
    let changed = told.ends.iter().filter(|(id, state)| states.get(id) != Some(state)).map(|(id, _)| *id);
    let other = told.calls.iter().filter(|before| !same_value(&api, before)).map(|call| call.job_id);
    let lost = absent.chain(changed).chain(other).collect();
    assert_eq!(blobs(&data), 0, "the store must never write a blob file");
    cluster.kill_server();
    Ok(lost)
}

/// Whether the outcome of a call is as it was told, and its value is there.
fn same_value(api: &Api, before: &pb::Task) -> bool {
    let same = api.tasks(before.job_id).is_ok_and(|tasks| tasks == std::slice::from_ref(before));
    same && std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| notes::value(api, before))).is_ok()
}

fn blobs(data: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(data) else { return 0 };
    let folders = entries.filter_map(|entry| entry.ok()).filter(|entry| entry.path().is_dir());
    folders
        .map(|folder| match folder.file_name() == "blobs" {
            true => std::fs::read_dir(folder.path()).map_or(0, Iterator::count),
            false => blobs(&folder.path()),
        })
        .sum()
}

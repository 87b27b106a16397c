//! SIGKILL the coordinator at random moments under load, of commands and of calls on every runtime: no acknowledged job
//! is lost, no task runs twice, none gets a second terminal record, every value is there, and it takes submits again within 3 s.

use std::collections::HashMap;
use std::time::{Duration, Instant};
use taskq_proto::v1 as pb;
use taskq_tests::load::Load;
use taskq_tests::{Api, Cluster, Ledger, Proxy, Seed, Setup, notes, spec, wait};

const CYCLES: usize = 60;

/// The first submit after a restart is accepted within this time.
const RETURN: Duration = Duration::from_secs(3);

#[test]
fn nothing_is_lost_and_nothing_runs_twice() {
    let mut seed = Seed::new("kill_coordinator");
    // Workers warn that they cannot reach the coordinator, which is what this test is about.
    let mut cluster = Setup::new().tolerate("coordinator").tolerate("value cannot be stored yet").start();
    let ledger = Ledger::new(cluster.folder());
    let proxy = Proxy::to(&cluster.access().address);
    cluster.worker(4);
    cluster.worker_of(&notes::program(), 4, &[]);
    cluster.launch_worker_at(2, 4, proxy.address());

    let (start, end) = (ledger.note("start"), ledger.note("end"));
    let called = ledger.clone();
    let job = move |seed: &mut Seed| {
        let sleep = seed.number(1, 300);
        if seed.once_in(2) {
            return vec![notes::job(Some(&called), sleep, length(sleep), seed)];
        }
        let one = spec::shell(&format!("{start}; sleep {}.{:03}; {end}", sleep / 1_000, sleep % 1_000));
        match seed.number(1, 6) {
            1 => vec![spec::array(one, seed.number(2, 6) as u32)],
            2 => vec![one.clone(), one],
            _ => vec![one],
        }
    };
    let load = Load::start(&cluster.access(), 3, &mut seed, 250, job);

    let mut values = 0;
    let mut seen = Ends::default();
    let mut slowest = Duration::ZERO;
    for cycle in 1..=CYCLES {
        wait::random_moment(seed.millis(1, 900));
        if seed.once_in(3) {
            proxy.cut();
        }
        seen.look(&cluster, &load, &mut seed);
        cluster.kill_server();
        let start = Instant::now();
        cluster.launch_server();
        let back = first_submit(&mut cluster, start);
        assert!(back <= RETURN, "cycle {cycle}: the first submit was accepted only after {back:?}");
        slowest = slowest.max(back);
    }

    let acked = load.stop();
    let api = cluster.api();
    let jobs = all_ended(&api);
    let lost: Vec<_> = acked.keys().filter(|id| !jobs.contains_key(id)).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged jobs are lost: {lost:?}", lost.len(), acked.len());
    let (starts, ends) = (ledger.counts("start"), ledger.counts("end"));
    let twice: Vec<_> = starts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "tasks ran twice: {twice:?}");
    for (id, tasks) in &acked {
        let job = &jobs[id];
        assert_eq!(job.state, pb::State::Succeeded as i32, "{job:?}");
        for index in 0..*tasks {
            assert_eq!(ends.get(&(*id, index)), Some(&1), "task {id}.{index} ran to its end exactly once");
        }
        let ends = seen.agree(&api, *id, *tasks);
        if job.spec.as_ref().is_some_and(|spec| spec.call.is_some()) {
            values += ends.iter().map(|end| check_value(&api, end)).sum::<usize>();
        }
    }
    println!(
        "{CYCLES} kills, {} acknowledged jobs, {} tasks, {} ends compared, {values} values; slowest return {slowest:?}",
        acked.len(),
        starts.len(),
        seen.ends.len()
    );
    assert!(acked.len() > CYCLES && values > CYCLES, "the load was real: {} jobs", acked.len());
}

/// How long the value of a call is that takes `ms`: one in four goes another way, being too long for its outcome.
fn length(ms: u64) -> u64 {
    if ms.is_multiple_of(4) { 40_000 + ms } else { ms }
}

/// The call itself told how long its value is.
fn check_value(api: &Api, end: &pb::Task) -> usize {
    let filling = notes::value(api, end)["filling"].as_str().map_or(0, str::len) as u64;
    assert!(filling == length(filling) || filling == length(filling.saturating_sub(40_000)), "{end:?}");
    notes::check(api, end, filling);
    1
}

/// Submits until it is accepted; the time since `start`.
fn first_submit(cluster: &mut Cluster, start: Instant) -> Duration {
    let api = cluster.api();
    wait::holds("the first submit after the restart is accepted", || {
        assert!(cluster.server().ended().is_none(), "the coordinator ended:\n{}", cluster.server().log());
        api.submit(&spec::request(vec![spec::command(&["true"])])).is_ok()
    });
    start.elapsed()
}

/// Waits until every job has ended; all of them by id.
fn all_ended(api: &Api) -> HashMap<u64, pb::Job> {
    let jobs = wait::until("every job has ended", || {
        let jobs = api.list(pb::Filter::default()).ok()?;
        jobs.iter().all(|job| spec::is_terminal(job.state)).then_some(jobs)
    });
    jobs.into_iter().map(|job| (job.id, job)).collect()
}

/// Ends of tasks as they were told before a kill. None may ever be told differently.
#[derive(Default)]
struct Ends {
    ends: HashMap<(u64, u32), pb::Task>,
}

impl Ends {
    /// Asks for the ends of some acknowledged jobs.
    fn look(&mut self, cluster: &Cluster, load: &Load, seed: &mut Seed) {
        let acked: Vec<u64> = load.acked().into_keys().collect();
        if acked.is_empty() {
            return;
        }
        let api = cluster.api();
        for _ in 0..5 {
            // Recent ones: their ends are the youngest records.
            let recent = &acked[acked.len().saturating_sub(20)..];
            for task in api.ends(*seed.pick(recent)).unwrap_or_default() {
                let key = (task.job_id, task.index);
                if let Some(before) = self.ends.insert(key, task.clone()) {
                    assert_eq!(before, task, "an end was told in two ways");
                }
            }
        }
    }

    /// Every task of the job has exactly one end, the one that was told before, in its first attempt.
    fn agree(&self, api: &Api, id: u64, tasks: u32) -> Vec<pb::Task> {
        let ends = api.ends(id).unwrap_or_else(|status| panic!("results of job {id}: {status}"));
        let mut indices: Vec<u32> = ends.iter().map(|task| task.index).collect();
        indices.sort_unstable();
        assert_eq!(indices, (0..tasks).collect::<Vec<_>>(), "one terminal record for each task of job {id}");
        for end in &ends {
            assert_eq!(end.attempt, 1, "no attempt is charged: {end:?}");
            if let Some(before) = self.ends.get(&(id, end.index)) {
                assert_eq!(before, end, "an end was told differently before a kill");
            }
        }
        ends
    }
}

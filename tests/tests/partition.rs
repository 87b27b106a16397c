//! Hosts of their own, and a network between them that is cut in one direction or both, for longer than the lease, and
//! heals: no task is lost, none runs twice without need, a late result is refused, and all is over soon afterwards. And
//! an order of starting, names and addresses that nobody may rely on.

use rustix::process::Signal;
use std::fs;
use std::time::{Duration, Instant};
use taskq_proto::v1 as pb;
use taskq_proto::v1::outcome::Kind;
use taskq_tests::load::Load;
use taskq_tests::{Cluster, Hosts, Ledger, Seed, Setup, hosts, need, spec, wait};

const LEASE: &str = "2s";
/// The longest that a task of these tests runs.
const LONGEST_MS: u64 = 400;
/// After the network has healed: the lease, the longest pause between two tries of a worker to connect (5 s), a run, and
/// two seconds for a busy machine.
const BOUND: Duration = Duration::from_millis(2_000 + 5_000 + LONGEST_MS + 2_000);
const PORT: u16 = 7_733;

/// Who hears nothing of the other.
#[derive(Clone, Copy, Debug)]
enum Deaf {
    Worker,
    Coordinator,
    Both,
}

const CUTS: [Deaf; 3] = [Deaf::Worker, Deaf::Coordinator, Deaf::Both];

/// The coordinator is on host 0, where the test is as well, `w1` on host 1, `w2` on host 2.
struct Scene {
    cluster: Cluster,
    ledger: Ledger,
    hosts: Hosts,
}

impl Scene {
    fn new(flags: &[&str]) -> Scene {
        let hosts = Hosts::new(3);
        hosts.join(0);
        let cluster = coordinator(&hosts, flags).start();
        let ledger = Ledger::new(cluster.folder());
        Scene { cluster, ledger, hosts }
    }

    fn workers(&mut self, slots: u32, flags: &[&str]) {
        let address = format!("{}:{PORT}", self.hosts.at(0).address());
        let flags = [&["--addr", &address], flags].concat();
        for number in [1, 2] {
            self.cluster.launch_worker_on(self.hosts.at(number), number, slots, &flags);
        }
        wait::holds("both workers are there", || self.online("w1") && self.online("w2"));
    }

    fn online(&self, name: &str) -> bool {
        let seen = |worker: &pb::Worker| worker.name == name && worker.status == 1;
        self.cluster.api().workers().is_ok_and(|workers| workers.iter().any(seen))
    }

    fn cut(&self, cut: Deaf, host: usize) {
        match cut {
            Deaf::Worker => self.hosts.cut(0, host),
            Deaf::Coordinator => self.hosts.cut(host, 0),
            Deaf::Both => {
                self.hosts.cut(0, host);
                self.hosts.cut(host, 0);
            }
        }
    }

    /// A task that nobody may run while another attempt of it lives: it would exit with 99.
    fn alone(&self, body: &str) -> String {
        let lock = self.cluster.folder().join("lock").display().to_string();
        format!("exec flock -n -E 99 {lock}.$TASKQ_JOB.$TASKQ_TASK sh -c '{body}'")
    }

    /// Each task of the job ended well; it ran again only where its worker had been lost, once for each attempt.
    fn ran_as_often_as_needed(&self, job: u64, lost: &[&str]) -> usize {
        let api = self.cluster.api();
        let ended = api.ended(job);
        assert_eq!(ended.state, pb::State::Succeeded as i32, "{ended:?}\n{:?}", api.tasks(job));
        let mut again = 0;
        for task in api.tasks(job).expect("the tasks of a job") {
            let task = api.task(job, task.index);
            let starts = self.ledger.attempts("start", job, task.index);
            assert!(starts.is_sorted_by(|a, b| a < b), "each attempt starts once: {starts:?}");
            assert_eq!(starts.last(), Some(&task.attempt), "the attempt that counts is the last: {task:?}");
            for earlier in &task.earlier {
                assert_eq!(earlier.kind, Kind::WorkerLost as i32, "{task:?}");
                assert!(lost.contains(&&*earlier.worker), "{} was never cut off: {task:?}", earlier.worker);
            }
            again += task.earlier.len();
        }
        again
    }
}

fn coordinator(hosts: &Hosts, flags: &[&str]) -> Setup {
    let address = format!("{}:{PORT}", hosts.at(0).address());
    let setup = Setup::new().listen(&address).under(&hosts.at(0).wrapper());
    let setup = setup.flags(&["--insecure-plaintext"]).flags(flags);
    ["worker", "coordinator", "lease"].into_iter().fold(setup, Setup::tolerate)
}

#[test]
fn the_late_results_of_a_worker_that_was_cut_off_are_refused() {
    if !need::root_and(hosts::TOOLS) {
        return;
    }
    let mut scene = Scene::new(&["--lease", LEASE]);
    scene.workers(4, &["--on-lease-lost", "finish"]);
    let api = scene.cluster.api();
    let (start, end, late) =
        (scene.ledger.note("start"), scene.ledger.note("end"), scene.ledger.note("late"));
    for cut in CUTS {
        let gate = scene.cluster.folder().join(format!("gate-{cut:?}"));
        // The first attempt is told to end when its worker has been given up, and says something else than the second.
        let held = format!(
            "{start}; if [ $TASKQ_ATTEMPT = 1 ]; then until [ -e {} ]; do sleep 0.02; done; {late}; exit 7; fi; {end}",
            gate.display()
        );
        let held = api.submit_one(spec::shell(&held));
        let victim = api.running(held).worker;
        wait::holds("the first attempt runs", || scene.ledger.attempts("start", held, 0) == [1]);
        let short = format!("{start}; sleep 0.$((TASKQ_TASK % 4 + 1)); {end}");
        let short = api.submit_one(spec::array(spec::shell(&short), 40));
        wait::holds("some of the others run", || scene.ledger.counts("start").len() > 2);

        scene.cut(cut, if victim == "w1" { 1 } else { 2 });
        assert_eq!(api.ended(held).state, pb::State::Succeeded as i32, "{cut:?}: it runs elsewhere");
        let told = api.ends(held).expect("its outcome");
        fs::write(&gate, "").expect("open the gate");
        wait::holds("the first attempt ends, cut off", || scene.ledger.attempts("late", held, 0) == [1]);
        let refused = api.stats().expect("stats").stale_reports;

        let healed = Instant::now();
        scene.hosts.heal();
        wait::until_within(BOUND, "its worker is back", || scene.online(&victim).then_some(()));
        let again = scene.ran_as_often_as_needed(short, &[&victim]);
        assert!(healed.elapsed() < BOUND, "{cut:?}: {:?} until all had ended", healed.elapsed());
        wait::holds("its late result has been refused", || {
            api.stats().is_ok_and(|stats| stats.stale_reports > refused)
        });
        assert_eq!(api.ends(held).expect("its outcome"), told, "{cut:?}: the late result changed nothing");
        assert_eq!(scene.ran_as_often_as_needed(held, &[&victim]), 1);
        println!(
            "{cut:?}: {again} of 40 short tasks ran again, all over {:?} after it healed",
            healed.elapsed()
        );
    }
}

#[test]
fn a_worker_that_kills_what_it_may_have_lost_never_overlaps_with_the_next() {
    if !need::root_and(hosts::TOOLS) {
        return;
    }
    let mut scene = Scene::new(&["--lease", LEASE]);
    scene.workers(4, &["--on-lease-lost", "kill"]);
    let api = scene.cluster.api();
    for cut in CUTS {
        let start = scene.ledger.note("start");
        let held = format!("{start}; if [ $TASKQ_ATTEMPT = 1 ]; then exec sleep 600; fi");
        let held = api.submit_one(spec::shell(&scene.alone(&held)));
        let victim = api.running(held).worker;
        wait::holds("the first attempt runs", || scene.ledger.attempts("start", held, 0) == [1]);
        scene.cut(cut, if victim == "w1" { 1 } else { 2 });
        assert_eq!(api.ended(held).state, pb::State::Succeeded as i32, "{cut:?}: alone, and elsewhere");
        scene.hosts.heal();
        wait::until_within(BOUND, "its worker is back", || scene.online(&victim).then_some(()));
        assert_eq!(scene.ran_as_often_as_needed(held, &[&victim]), 1, "{cut:?}");
    }
}

#[test]
fn whatever_the_network_does_everything_ends_once_it_has_healed() {
    if !need::root_and(hosts::TOOLS) {
        return;
    }
    let mut seed = Seed::new("partition");
    let mut scene = Scene::new(&["--lease", LEASE]);
    scene.workers(4, &["--on-lease-lost", "kill"]);
    let body = format!("{}; sleep SECONDS; {}", scene.ledger.note("start"), scene.ledger.note("end"));
    let script = scene.alone(&body);
    let job = move |seed: &mut Seed| {
        let mut one = spec::shell(&script.replace("SECONDS", &seconds(seed)));
        one.crash_limit = 1_000;
        vec![one]
    };
    let load = Load::start(&scene.cluster.access(), 2, &mut seed, 250, job);
    for _ in 0..10 {
        for host in [1, 2] {
            if seed.once_in(2) {
                scene.cut(*seed.pick(&CUTS), host);
            }
        }
        wait::random_moment(seed.millis(50, 4_000));
        if seed.once_in(2) {
            scene.hosts.heal();
        }
    }
    let acked = load.stop();
    let queued = scene.cluster.api().stats().expect("stats").tasks_queued;
    let healed = Instant::now();
    scene.hosts.heal();
    // Eight slots work off what has piled up.
    let bound = BOUND + Duration::from_millis(queued * LONGEST_MS / 8);
    wait::until_within(bound, "everything has ended", || {
        (scene.cluster.api().stats().ok()?.jobs_live == 0).then_some(())
    });
    let took = healed.elapsed();
    let again: usize = acked.keys().map(|job| scene.ran_as_often_as_needed(*job, &["w1", "w2"])).sum();
    println!(
        "{} jobs, {again} attempts lost, {queued} queued when it healed, over {took:?} later",
        acked.len()
    );
    assert!(again > 0, "the cuts struck running tasks");
}

fn seconds(seed: &mut Seed) -> String {
    format!("0.{:03}", seed.number(1, LONGEST_MS))
}

#[test]
fn a_network_that_loses_packets_loses_no_task() {
    if !need::root_and(hosts::TOOLS) {
        return;
    }
    let mut scene = Scene::new(&[]);
    scene.workers(4, &[]);
    scene.hosts.lose(5);
    let job = scene.cluster.api().submit_one(spec::array(spec::shell(&scene.ledger.note("start")), 300));
    assert_eq!(scene.ran_as_often_as_needed(job, &[]), 0, "nobody was given up");
    assert_eq!(scene.ledger.lines("start").len(), 300);
}

#[test]
fn workers_come_first_names_come_late_and_the_coordinator_moves() {
    if !need::root_and(hosts::TOOLS) {
        return;
    }
    let mut hosts = Hosts::new(2);
    hosts.join(0);
    let data = hosts.folder().join("data");
    let mut cluster = coordinator(&hosts, &["--lease", "5s"]).data(&data).start();
    let ledger = Ledger::new(cluster.folder());
    // There is an access file from here on, and no coordinator.
    cluster.stop_server();
    cluster.launch_worker_on(hosts.at(1), 1, 2, &["--addr", &format!("coordinator.test:{PORT}")]);
    let said = |cluster: &mut Cluster, reason: &str| cluster.worker_at(1).log().contains(reason);
    wait::holds("the worker has looked for a name that nobody knows", || said(&mut cluster, "dns error"));
    hosts.at(1).knows("coordinator.test", hosts.at(0).address());
    wait::holds("and knocked where nobody answers", || said(&mut cluster, "tcp connect error"));
    cluster.start_server();
    let online = |cluster: &Cluster| {
        cluster
            .api()
            .workers()
            .is_ok_and(|all| all.iter().any(|worker| worker.name == "w1" && worker.status == 1))
    };
    wait::holds("the worker is there", || online(&cluster));

    let gate = cluster.folder().join("gate");
    let script = format!(
        "{}; until [ -e {} ]; do sleep 0.02; done; {}",
        ledger.note("start"),
        gate.display(),
        ledger.note("end")
    );
    let job = cluster.api().submit_one(spec::shell(&script));
    wait::holds("a task runs", || ledger.lines("start").len() == 1);
    cluster.kill_server();
    hosts.readdress(0);
    cluster.move_server(&format!("{}:{PORT}", hosts.at(0).address()));
    cluster.start_server();
    hosts.at(1).knows("coordinator.test", hosts.at(0).address());
    wait::holds("the worker has found it where it is now", || online(&cluster));
    fs::write(&gate, "").expect("open the gate");
    assert_eq!(cluster.api().ended(job).state, pb::State::Succeeded as i32);
    let task = cluster.api().task(job, 0);
    assert_eq!((task.attempt, task.earlier.len()), (1, 0), "it was never disturbed: {task:?}");
    assert_eq!((ledger.lines("start").len(), ledger.lines("end").len()), (1, 1));
    cluster.worker_at(1).signal(Signal::TERM);
    assert_eq!(cluster.worker_at(1).end().code(), Some(0), "it leaves as usual");
}

//! A million results, fetched by a client that is killed again and again, and by way of a coordinator that is killed, too:
//! each is there exactly once.

use std::path::Path;
use std::time::{Duration, Instant};
use taskq_tests::{Cluster, Daemon, Seed, Setup, binaries, cluster, daemon, notes, spec, wait};

const CALLS: u32 = 1_000_000;

/// Of the client, while results come.
const KILLS: u32 = 15;

#[test]
fn a_million_results_are_fetched_once_each_by_a_client_that_is_killed() {
    let mut seed = Seed::new("calls_results");
    let mut cluster = Setup::new().tolerate("coordinator").start();
    cluster.worker_of(&notes::program(), 2, &[]);
    let api = cluster.api();
    let mut squares = spec::array(spec::call("square", ""), CALLS);
    squares.name = "squares".to_owned();
    let start = Instant::now();
    let id = api.submit_one(squares);
    let file = cluster.folder().join("results");
    for kill in 1..=KILLS {
        let mut client = collect(&cluster, id, &file);
        wait::random_moment(seed.millis(50, 900));
        client.kill();
        if kill == KILLS / 2 {
            cluster.kill_server();
            cluster.start_server();
        }
    }
    let mut client = collect(&cluster, id, &file);
    wait::until_within(Duration::from_secs(300), "the client has all results", || client.ended());
    assert_eq!(client.end().code(), Some(0), "the client that was not killed ends well:\n{}", client.log());
    println!("{CALLS} results with {KILLS} kills of the client in {:.1?}", start.elapsed());

    let text = std::fs::read_to_string(&file).expect("the results");
    let mut seen = vec![false; CALLS as usize];
    for (line, cursor) in text.lines().zip(1_u64..) {
        let numbers: Vec<u64> = line.split(' ').map(|n| n.parse().expect(line)).collect();
        let [said, index, value] = numbers[..] else { panic!("{line}") };
        assert_eq!(said, cursor, "no gap, no repeat");
        // The elements count from 1.
        assert_eq!(value, (index + 1) * (index + 1), "the value of {index}");
        assert!(!std::mem::replace(&mut seen[index as usize], true), "{index} came twice");
    }
    assert!(seen.iter().all(|seen| *seen), "each result is there");
    assert!(text.ends_with('\n') && text.lines().count() == CALLS as usize);
}

fn collect(cluster: &Cluster, job: u64, file: &Path) -> Daemon {
    let mut command = daemon::leashed(&binaries::example("collect"));
    cluster::clean(&mut command, cluster.folder());
    command.arg(job.to_string()).arg(file).env("TASKQ_ACCESS", cluster.access_file());
    Daemon::start("the client", &cluster.folder().join("collect.log"), command)
}

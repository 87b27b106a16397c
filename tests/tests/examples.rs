//! The examples as README runs them: two workers on two addresses share the calls, and what the calls print is seen.

use std::collections::BTreeMap;
use std::process::Command;
use taskq_tests::{binaries, cluster};

/// Runs `scripts/example` to its end; what it printed.
fn example(name: &str) -> String {
    let home = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(binaries::workspace().join("scripts/example"));
    cluster::clean(&mut command, home.path());
    command.arg(name).env("TASKQ_DEMO_BIN", binaries::folder());
    let done = command.output().expect("run scripts/example");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (said(&done.stdout), said(&done.stderr));
    assert!(done.status.success(), "scripts/example {name}: {}\n{out}\n{err}", done.status);
    out
}

/// How many calls each worker had, by the addresses that they connect from.
fn shares(said: &str) -> BTreeMap<String, u32> {
    let share = |line: &str| {
        let (address, rest) = line.split_once(" at ")?.1.split_once(": ")?;
        Some((address.to_owned(), rest.split(' ').next()?.parse().ok()?))
    };
    said.lines().filter(|line| line.starts_with("  worker ")).filter_map(share).collect()
}

fn assert_shared(said: &str, calls: u32) {
    let shares = shares(said);
    let addresses: Vec<&str> = shares.keys().map(String::as_str).collect();
    assert_eq!(addresses, ["127.0.0.2", "127.0.0.3"], "both workers had some:\n{said}");
    assert_eq!(shares.values().sum::<u32>(), calls, "{said}");
}

fn assert_processed(said: &str) {
    for n in 0..10 {
        let line = format!("Processing {n}");
        assert_eq!(said.lines().filter(|said| **said == line).count(), 1, "{line:?} is seen once in\n{said}");
    }
}

#[test]
fn ten_calls_of_an_executor() {
    let said = example("executor");
    assert_processed(&said);
    for n in 0..10 {
        let line = format!("Result: {}", n * n);
        assert_eq!(said.lines().filter(|said| **said == line).count(), 1, "{line:?} in\n{said}");
    }
    assert_shared(&said, 10);
}

#[test]
fn a_pool_is_closed_and_joined() {
    let said = example("pool");
    assert_processed(&said);
    assert_shared(&said, 10);
}

#[test]
fn a_function_of_each_kind() {
    let said = example("handlers");
    for line in ["78498", "9592", "17984"] {
        assert!(said.lines().any(|said| said == line), "primes counts {line}:\n{said}");
    }
    let lengths: Vec<String> = (1..=100).map(|n| n.to_string()).collect();
    assert!(said.contains(&format!("[{}]", lengths.join(","))), "the lengths of a hundred pages:\n{said}");
    assert_shared(&said, 1 + 10 + 2 + 2);
}

//! What calls gain that do something, through the public API alone: coordinator, worker and client as separate processes
//! of this machine, everything durable. `make binaries examples && cargo bench -p taskq-tests --bench calls`; medians of
//! five. How fast calls are that do nothing is measured by `taskq bench`.
//!
//! | case | what |
//! |---|---|
//! | cores | work that keeps a core busy, on one slot and on two |
//! | waits | 1,000 calls that wait 100 ms, on one worker's event loop |

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use taskq_client::{Access, Client, Pool, Sources};
use taskq_tests::{Cluster, notes};

const REPEATS: usize = 5;

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |case: &str| wanted.is_empty() || wanted.iter().any(|word| word == case);
    println!("| case | median | best | worst | |\n|---|---|---|---|---|");
    if wants("cores") {
        cores()?;
    }
    if wants("waits") {
        measure("waits", 2, |client| async move {
            let argument = r#"{"ms": 100}"#;
            let arguments = std::iter::repeat_n(serde_json::from_str::<serde_json::Value>(argument)?, 1_000);
            let values: Vec<serde_json::Value> = Pool::new(&client).map("future", arguments).await?;
            ensure!(values.len() == 1_000);
            Ok(())
        })?
        .tell("waits", "1,000 calls of 100 ms");
    }
    Ok(())
}

/// One slot against two, in turns, so that both meet the same machine.
fn cores() -> Result<()> {
    let run = |client: Client| async move {
        let counts: Vec<usize> =
            Pool::new(&client).map("primes", std::iter::repeat_n(200_000_u64, 40)).await?;
        ensure!(counts.iter().all(|count| *count == 17_984));
        Ok(())
    };
    let (one, two) = (Stage::start(1)?, Stage::start(2)?);
    let (mut on_one, mut on_two) = (Times::default(), Times::default());
    for _ in 0..REPEATS {
        on_one.0.push(one.time(run)?);
        on_two.0.push(two.time(run)?);
    }
    on_one.tell("cores", "one slot");
    let ratio = on_one.median().as_secs_f64() / on_two.median().as_secs_f64();
    on_two.tell("cores", &format!("two slots: {ratio:.2} times as fast"));
    Ok(())
}

fn measure<F>(case: &str, slots: u32, run: impl Fn(Client) -> F) -> Result<Times>
where
    F: Future<Output = Result<()>>,
{
    let stage = Stage::start(slots)?;
    let mut times = Times::default();
    for _ in 0..REPEATS {
        times.0.push(stage.time(&run).with_context(|| format!("case {case}"))?);
    }
    Ok(times)
}

/// A coordinator, a worker and this process's client.
struct Stage {
    _cluster: Cluster,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    fn start(slots: u32) -> Result<Stage> {
        let mut cluster = Cluster::start();
        cluster.worker_of(&notes::program(), slots, &[]);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let sources = Sources { access_file: Some(cluster.access_file()), ..Sources::default() };
        let client = runtime.block_on(async { Client::connect(&Access::find(&sources)?).await })?;
        // The first call of each kind is not measured: it teaches the coordinator how long they take.
        runtime.block_on(async { client.call::<u64>("square", 2_u64).await })?;
        Ok(Stage { _cluster: cluster, client, runtime })
    }

    fn time<F: Future<Output = Result<()>>>(&self, run: impl Fn(Client) -> F) -> Result<Duration> {
        let start = Instant::now();
        self.runtime.block_on(run(self.client.clone()))?;
        Ok(start.elapsed())
    }
}

#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    }

    fn tell(&self, case: &str, what: &str) {
        let (best, worst) = (self.0.iter().min(), self.0.iter().max());
        println!(
            "| {case} | {:.3?} | {:.3?} | {:.3?} | {what} |",
            self.median(),
            best.copied().unwrap_or_default(),
            worst.copied().unwrap_or_default()
        );
    }
}

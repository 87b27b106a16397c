//! What this machine can do by itself, without taskq: the limits that figures are compared with.
//!
//! Each is measured for a fraction of a second. They block: call them where that does no harm.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::exit::Failure;

use super::figures::median;

/// How long a rate is measured, at least.
const LONG: Duration = Duration::from_millis(300);
/// What is appended before each sync.
const BLOCK: [u8; 4_096] = [0x5a; 4_096];
/// Syncs at least, on slow disks.
const FEWEST: u32 = 16;
/// Bytes that go there and back.
const ROUNDS: usize = 2_000;
/// Processes one after another.
const LONE: usize = 64;

/// The machine of a run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) kernel: String,
    pub(super) fdatasync_per_second: f64,
    pub(super) spawns_per_second: f64,
    pub(super) lone_spawn_us: f64,
    pub(super) round_trip_us: f64,
    /// Of the smallest question to an idle coordinator.
    pub(super) grpc_round_trip_us: f64,
}

/// The kinds of file systems that keep nothing: tmpfs and ramfs.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Whether what is in this directory is on no disk.
pub(crate) fn is_in_memory(dir: &Path) -> anyhow::Result<bool> {
    let system = rustix::fs::statfs(dir)
        .map_err(|cause| Failure::io(format!("cannot use {}", dir.display()), &cause.into()))?;
    // Its type differs from architecture to architecture.
    Ok(IN_MEMORY.iter().any(|kind| i128::from(system.f_type) == i128::from(*kind)))
}

/// How often a second 4 KiB can be appended to a file in this folder and be on the disk.
pub(super) fn fdatasyncs(folder: &Path) -> anyhow::Result<f64> {
    let failed = |cause: std::io::Error| {
        Failure::io(format!("cannot measure the disk of {}", folder.display()), &cause)
    };
    let path = folder.join("fdatasync");
    let measure = || -> std::io::Result<f64> {
        let mut file = OpenOptions::new().create_new(true).append(true).open(&path)?;
        let mut syncs = 0;
        let began = Instant::now();
        while began.elapsed() < LONG || syncs < FEWEST {
            file.write_all(&BLOCK)?;
            file.sync_data()?;
            syncs += 1;
        }
        let rate = f64::from(syncs) / began.elapsed().as_secs_f64();
        std::fs::remove_file(&path)?;
        Ok(rate)
    };
    measure().map_err(failed)
}

/// How often a second `true` can be started and waited for, by so many threads.
pub(super) fn spawns(threads: u32) -> anyhow::Result<f64> {
    let began = Instant::now();
    let counts: Vec<anyhow::Result<u32>> = std::thread::scope(|scope| {
        let until_over = || {
            let mut count = 0;
            while began.elapsed() < LONG {
                spawn()?;
                count += 1;
            }
            Ok(count)
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(until_over)).collect();
        threads.into_iter().map(|thread| thread.join().expect("nothing panics there")).collect()
    });
    let mut spawned = 0;
    for count in counts {
        spawned += count?;
    }
    Ok(f64::from(spawned) / began.elapsed().as_secs_f64())
}

/// How long one `true` takes alone, in microseconds.
pub(super) fn lone_spawn_us() -> anyhow::Result<f64> {
    let mut times = Vec::with_capacity(LONE);
    for _ in 0..LONE {
        let began = Instant::now();
        spawn()?;
        times.push(micros(began.elapsed()));
    }
    Ok(median(&times))
}

fn spawn() -> anyhow::Result<()> {
    let status =
        Command::new("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(anyhow::anyhow!("`true` ended with {status}")),
        Err(cause) => Err(Failure::io("cannot start `true`", &cause)),
    }
}

/// How long one byte takes to another thread and back over TCP on the loopback, in microseconds.
pub(super) fn round_trip_us() -> anyhow::Result<f64> {
    let measure = || -> std::io::Result<f64> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut here = TcpStream::connect(listener.local_addr()?)?;
        let (mut there, _) = listener.accept()?;
        here.set_nodelay(true)?;
        there.set_nodelay(true)?;
        std::thread::scope(|scope| {
            let echo = scope.spawn(move || -> std::io::Result<()> {
                let mut byte = [0];
                // Until the other end is closed.
                while there.read(&mut byte)? > 0 {
                    there.write_all(&byte)?;
                }
                Ok(())
            });
            let mut times = Vec::with_capacity(ROUNDS);
            let mut byte = [1];
            for _ in 0..ROUNDS {
                let began = Instant::now();
                here.write_all(&byte)?;
                here.read_exact(&mut byte)?;
                times.push(micros(began.elapsed()));
            }
            drop(here);
            echo.join().expect("nothing panics there")?;
            Ok(median(&times))
        })
    };
    measure().map_err(|cause| Failure::io("cannot measure the loopback", &cause))
}

/// As a number with fractions.
pub(super) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

//! How fast this crate starts processes, for `benches/spawn.rs`: the runtime of commands and the spawner as in a worker, no coordinator.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use taskq_template::Template;
use tokio::sync::mpsc;

use crate::attempt::{ByteCount, Epoch, How, Job, JobId, Key, Needs, Program, Task};
use crate::cgroup::Limits;
use crate::memory::Memory;
use crate::outbox::{self, Event};
use crate::runtime::{Commands, Flusher, News, Runtime, Shared, Surroundings};
use crate::spawner::{Setup, Spawner, Who};

/// Runs `true` as `tasks` tasks, `slots` at once, and returns how long that took.
///
/// # Panics
/// The spawner does not start, or a task does not end as `true` does.
#[must_use]
pub fn time_tasks(tasks: u32, slots: u32) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let setup = Setup::default();
        let who = Who { program: "/proc/self/exe".into(), setup };
        let (news, mut events) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            spawner: Spawner::start(who).expect("the spawner starts"),
            surroundings: Surroundings::new("bench".to_owned(), 0),
            news,
            room: outbox::room(),
            memory: Memory::watch(),
            flusher: Flusher::default(),
        });
        let commands = Commands::new(Arc::clone(&shared));
        let job = Arc::new(job());
        let mut held = Vec::new();
        let mut start = |index: u32, slot: u32| {
            let key = Key { job: job.id, index, attempt: 1, epoch: Epoch(1) };
            let task = Task { key, job: Arc::clone(&job), fields: Vec::new() };
            held.push(commands.start(task, slot));
        };
        // The spawner is up, and everything is in the caches.
        start(0, 0);
        let (mut started, mut ended) = (1, 0);
        let mut began = Instant::now();
        while ended < tasks + 1 {
            let News::Report(report) = events.recv().await.expect("the runtime reports") else { continue };
            let Event::Ended(outcome) = report.event else { continue };
            assert_eq!(outcome.how, How::Exited(0), "{outcome:?}");
            ended += 1;
            if ended == 1 {
                began = Instant::now();
            }
            while started < tasks + 1 && started - ended < slots {
                start(started, started % slots);
                started += 1;
            }
        }
        let took = began.elapsed();
        shared.spawner.farewell().await;
        took
    })
}

fn job() -> Job {
    let template = Template::parse(&["true".to_owned()], false, &[]).expect("a plain command");
    Job {
        id: JobId(1),
        program: Program::Argv(template),
        env: Vec::new(),
        cwd: String::new(),
        stdin: Bytes::new(),
        timeout: None,
        grace: Duration::from_secs(10),
        needs: Needs { slots: 1, ..Needs::default() },
        limits: Limits::default(),
        priority: 0,
        output_limit: ByteCount(1 << 20),
        range: None,
    }
}

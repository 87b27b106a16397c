//! What a trial runs on: a coordinator on a fresh directory, its workers, and a client, warmed up. As processes of their
//! own, or all in this one. Nothing of it is left when it is stopped or dropped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use taskq_client::model::{self, State};
use taskq_client::{Access, Client, JobBuilder, Options};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::embed::{self, Embedded, Part};
use crate::exit::{self, Exit, Failure};

use super::daemon::{self, Daemon};
use super::usage::{self, Parts, Reach};
use super::worker;

/// Between two looks at whether a daemon is ready. Nobody tells us.
const PAUSE: Duration = Duration::from_millis(5);
/// Enough for a busy machine to start three processes.
const READY: Duration = Duration::from_secs(30);
/// Everything is on this machine: who does not answer for so long is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where and of what stages are made.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// In which a fresh directory is made for each.
    pub(crate) parent: PathBuf,
    /// All in this process.
    pub(crate) local: bool,
    /// Of each worker.
    pub(crate) slots: u32,
}

/// A system that is ready to be measured.
pub(super) struct Stage {
    system: System,
    access: Access,
    client: Client,
    /// Operations that are done, for the eyes of who waits.
    done: Arc<AtomicU64>,
    /// Dropped last.
    folder: TempDir,
}

enum System {
    Apart(Processes),
    /// Locked by who waits for an end of its.
    Together(Box<Mutex<Embedded>>),
}

struct Processes {
    workers: Vec<Daemon>,
    server: Daemon,
}

impl Processes {
    /// Stops workers first: they say goodbye to a coordinator that is still there.
    fn stop_workers(&mut self) -> anyhow::Result<()> {
        for daemon in &self.workers {
            daemon.terminate()?;
        }
        let stopped: Vec<anyhow::Result<()>> =
            self.workers.drain(..).map(|mut daemon| daemon.stop()).collect();
        daemon::await_orphans(&self.server)
            .map_err(|cause| Failure::io("cannot wait for what workers have left", &cause))?;
        stopped.into_iter().collect()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // Whoever lets go of them has something else to tell; the leash is on in any case.
        let _ = self.stop_workers();
    }
}

impl Stage {
    /// Starts it; see [`Stage::until_ready`]. From the main thread: see [`Daemon::start`].
    pub(super) async fn start(place: &Place, workers: u32) -> anyhow::Result<Stage> {
        let folder = tempfile::Builder::new().prefix("taskq-bench-").tempdir_in(&place.parent);
        let folder = folder.map_err(|cause| {
            Failure::io(format!("cannot make a directory in {}", place.parent.display()), &cause)
        })?;
        let data = folder.path().join("data");
        let deadline = Instant::now() + READY;
        let (system, access, client) = if place.local {
            let settings = embed::Settings {
                dir: data,
                listen: "127.0.0.1:0".to_owned(),
                slots: Some(place.slots),
                works: true,
                advertise: false,
                functions: worker::program(),
            };
            let embedded = Embedded::start_at(settings).await?;
            let access = embedded.access().clone();
            match Client::connect_with(&access, options()).await {
                Ok(client) => (System::Together(Box::new(Mutex::new(embedded))), access, client),
                Err(error) => {
                    embedded.stop().await?;
                    return Err(not_up(&error.into(), ""));
                }
            }
        } else {
            let server = start_server(folder.path(), &data)?;
            let (access, client) = until_it_answers(&server, &data, deadline).await?;
            let mut processes = Processes { workers: Vec::new(), server };
            for number in 0..workers {
                processes.workers.push(start_worker(folder.path(), &data, number, place.slots)?);
            }
            (System::Apart(processes), access, client)
        };
        Ok(Stage { system, access, client, done: Arc::default(), folder })
    }

    /// Waits until each of its parts has worked once, or one of them cannot.
    pub(super) async fn until_ready(&self) -> anyhow::Result<()> {
        let workers = match &self.system {
            System::Apart(processes) => processes.workers.len(),
            System::Together(_) => 1,
        };
        let ready = async {
            self.until_workers_are_there(workers, Instant::now() + READY).await?;
            self.warm_up().await
        };
        let ready = tokio::select! {
            ready = ready => ready,
            ended = self.ended() => Err(ended),
        };
        ready.map_err(|error| not_up(&error, ""))
    }

    /// Connected, and shared by all of a trial.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// A connection of its own.
    pub(super) async fn another_client(&self) -> anyhow::Result<Client> {
        Ok(Client::connect_with(&self.access, options()).await?)
    }

    /// Where the coordinator is, and its token.
    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// A directory on the disk that is measured, removed with the stage.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Counts operations that are done.
    pub(super) fn tick(&self, operations: u64) {
        self.done.fetch_add(operations, Ordering::Relaxed);
    }

    /// Counts from here: what came before was preparation.
    pub(super) fn forget_done(&self) {
        self.done.store(0, Ordering::Relaxed);
    }

    /// How many are done.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// CPU that each part has used so far.
    pub(super) fn cpu(&self) -> anyhow::Result<Parts<Duration>> {
        self.parts(usage::cpu, |one, other| one + other)
    }

    /// The most memory that each part has had.
    pub(super) fn peak(&self) -> anyhow::Result<Parts<u64>> {
        self.parts(usage::peak, |one, other| one + other)
    }

    /// What the coordinator keeps, in bytes on the disk.
    pub(super) fn disk(&self) -> anyhow::Result<u64> {
        usage::disk(&self.folder.path().join("data")).context("measure the data directory")
    }

    fn parts<T: Default>(
        &self,
        used: impl Fn(u32, Reach) -> std::io::Result<T>,
        add: impl Fn(T, T) -> T,
    ) -> anyhow::Result<Parts<T>> {
        let me = std::process::id();
        let used = |pid, reach| used(pid, reach).with_context(|| format!("look at process {pid}"));
        match &self.system {
            System::Apart(Processes { workers, server }) => {
                let mut worker = T::default();
                for daemon in workers {
                    worker = add(worker, used(daemon.pid(), Reach::Tree)?);
                }
                let (coordinator, client) = (used(server.pid(), Reach::Alone)?, used(me, Reach::Alone)?);
                Ok(Parts::Apart { coordinator, worker, client })
            }
            System::Together(_) => Ok(Parts::Together { process: used(me, Reach::Tree)? }),
        }
    }

    /// Ends, with what to tell of it, when a part ends by itself. Cancel-safe.
    pub(super) async fn ended(&self) -> anyhow::Error {
        match &self.system {
            System::Apart(Processes { workers, server }) => {
                let mut ends: Vec<_> =
                    workers.iter().chain([server]).map(|daemon| Box::pin(daemon.ended())).collect();
                std::future::poll_fn(|context| {
                    for end in &mut ends {
                        let ended = end.as_mut().poll(context);
                        if ended.is_ready() {
                            return ended;
                        }
                    }
                    std::task::Poll::Pending
                })
                .await
            }
            System::Together(embedded) => match embedded.lock().await.ended().await {
                Ok(Part::Coordinator) => daemon::part_ended("the coordinator"),
                Ok(Part::Worker) => daemon::part_ended("the worker"),
                Err(error) => error,
            },
        }
    }

    /// The last lines of the logs, to be put after a message.
    pub(super) fn said(&self) -> String {
        match &self.system {
            System::Apart(Processes { workers, server }) => {
                [server].into_iter().chain(workers).map(Daemon::said).collect()
            }
            System::Together(_) => String::new(),
        }
    }

    /// Stops all parts in good order, and removes the directory.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let Stage { system, access: _, client, done: _, folder } = self;
        drop(client);
        match system {
            System::Apart(mut processes) => {
                processes.stop_workers()?;
                processes.server.stop()?;
            }
            System::Together(embedded) => embedded.into_inner().stop().await?,
        }
        let path = folder.path().to_owned();
        folder.close().map_err(|cause| Failure::io(format!("cannot remove {}", path.display()), &cause))
    }

    async fn until_workers_are_there(&self, workers: usize, deadline: Instant) -> anyhow::Result<()> {
        loop {
            let known = self.client.workers().await?;
            let online =
                known.iter().filter(|worker| worker.status() == model::worker::Status::Online).count();
            if online >= workers {
                return Ok(());
            }
            in_time(deadline, "the workers are not there").await?;
        }
    }

    /// The first task of each kind teaches coordinator and worker how long they take; none is measured.
    async fn warm_up(&self) -> anyhow::Result<()> {
        for function in [worker::ECHO, worker::ECHO_ASYNC] {
            let value: u64 = self.client.call(function, 7).await?;
            check(value == 7, || format!("{function}(7) is {value}"))?;
        }
        let job = self.client.submit(JobBuilder::command(["true"])).await?.wait(None).await?;
        check(job.state() == State::Succeeded, || format!("`true` ended as {:?}", job.state()))
    }
}

/// The complaint if something that must hold does not: work was not done, or done wrong.
pub(super) fn check(holds: bool, complaint: impl FnOnce() -> String) -> anyhow::Result<()> {
    if holds { Ok(()) } else { Err(Failure::because(Exit::TasksFailed, complaint())) }
}

fn options() -> Options {
    Options { patience: PATIENCE, submit_patience: PATIENCE, on_trouble: None }
}

fn start_server(folder: &Path, data: &Path) -> anyhow::Result<Daemon> {
    let me = std::env::current_exe().map_err(|cause| Failure::io("cannot find this program", &cause))?;
    let program = me.with_file_name("taskq-server");
    if !program.is_file() {
        return Err(Failure::because(
            Exit::ProgramNotFound,
            format!(
                "there is no {}; install taskq-server beside taskq (cargo build --release builds both), or measure \
                 everything in one process with --local",
                program.display()
            ),
        ));
    }
    let furnish = |command: &mut std::process::Command| {
        command.current_dir(folder);
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data);
    };
    Daemon::start("taskq-server", &program, furnish, folder.join("server.log"))
}

fn start_worker(folder: &Path, data: &Path, number: u32, slots: u32) -> anyhow::Result<Daemon> {
    let furnish = |command: &mut std::process::Command| {
        command.current_dir(folder);
        command.args([worker::WORD, "--slots", &slots.to_string(), "--name", &format!("bench-{number}")]);
        command.arg("--access").arg(access_file(data));
    };
    let log = folder.join(format!("worker-{number}.log"));
    Daemon::start(&format!("worker {number}"), Path::new("/proc/self/exe"), furnish, log)
}

async fn until_it_answers(
    server: &Daemon,
    data: &Path,
    deadline: Instant,
) -> anyhow::Result<(Access, Client)> {
    let answers = async {
        loop {
            // It is there, whole, as soon as the port is known.
            if access_file(data).exists() {
                let access = Access::read(&access_file(data))?;
                match Client::connect_with(&access, options()).await {
                    Ok(client) => return Ok((access, client)),
                    Err(error) if error.is_unreachable() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            in_time(deadline, "the coordinator does not answer").await?;
        }
    };
    let answers = tokio::select! {
        answers = answers => answers,
        ended = server.ended() => Err(ended),
    };
    answers.map_err(|error| not_up(&error, &server.said()))
}

fn not_up(error: &anyhow::Error, said: &str) -> anyhow::Error {
    Failure::because(exit::of_error(error), format!("the system does not come up: {error:#}{said}"))
}

/// Waits a little, unless the time is over.
async fn in_time(deadline: Instant, complaint: &str) -> anyhow::Result<()> {
    if Instant::now() >= deadline {
        let waited = READY.as_secs();
        return Err(Failure::because(Exit::TimedOut, format!("{complaint} after {waited} seconds")));
    }
    sleep(PAUSE).await;
    Ok(())
}

fn access_file(data: &Path) -> PathBuf {
    data.join(taskq_client::access::FILE_NAME)
}

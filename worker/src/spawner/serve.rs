//! The spawner's loop: one thread, no runtime, three things to wait for (orders, room for news, ended children).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::bury;
use super::children::Children;
use super::wire::{self, Incoming, News, Order, Outgoing, Reply, Request, Setup, Spawn};
use crate::cgroup::{self, Group, Limits};
use crate::{clock, sys};

/// News gathered before they are sent although more orders wait: few enough that the first task's output is read
/// soon, and that their descriptors fit into one message.
const BATCH: usize = 16;

/// How long the news of a start waits for the news of its end, so that a short task wakes the worker once.
const START_NEWS: Duration = Duration::from_millis(2);

/// Runs until the worker is gone, then until all that it ran is gone.
pub(super) fn serve(inherited: BorrowedFd<'_>) -> io::Result<()> {
    let mut spawner = Spawner::prepare(inherited)?;
    let last_word = spawner.work();
    spawner.children.kill_everyone(|| wait_readable(spawner.signals.as_fd()));
    let mourner = spawner.setup.as_ref().filter(|setup| !setup.nobody_to_tell);
    match last_word {
        Ok(LastWord::Farewell) => Ok(()),
        Ok(LastWord::Vanished) => mourner.map_or(Ok(()), bury::bury),
        Err(error) => {
            if let Some(setup) = mourner {
                bury::bury(setup)?;
            }
            Err(error)
        }
    }
}

enum LastWord {
    Farewell,
    Vanished,
}

struct Spawner {
    control: OwnedFd,
    signals: OwnedFd,
    /// Readable when the lease is over. In this process, because the worker may be the one that has stopped.
    lease: OwnedFd,
    lease_is_over: bool,
    nothing: OwnedFd,
    stack: sys::Stack,
    children: Children,
    incoming: Incoming,
    outgoing: Outgoing,
    /// When what is in `outgoing` is to be sent at the latest. None: now.
    send_at: Option<Instant>,
    setup: Option<Setup>,
    /// Where groups are made.
    places: Option<cgroup::Places>,
}

/// The process, where its output is read, and its groups.
type Begun = (i32, [OwnedFd; 2], Option<Group>);

impl Spawner {
    /// Makes this process what its children inherit: no privileges to gain, no core dumps, private files; and leaves
    /// the worker's terminal and process group, so that Ctrl-C stops the worker only.
    fn prepare(inherited: BorrowedFd<'_>) -> io::Result<Spawner> {
        let control = inherited.try_clone_to_owned()?;
        sys::close_all_but(control.as_fd());
        let nothing = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(&nothing)?;
        rustix::stdio::dup2_stdout(&nothing)?;
        let signals = sys::signals()?;
        // It is a session leader already if somebody started it as one.
        let _ = rustix::process::setsid();
        let me = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(me))?;
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        rustix::thread::set_no_new_privs(true)?;
        rustix::process::umask(Mode::from_raw_mode(0o077));
        rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        Ok(Spawner {
            control,
            signals,
            lease: timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?,
            lease_is_over: false,
            nothing,
            stack: sys::Stack::new(),
            children: Children::new(),
            incoming: Incoming::default(),
            outgoing: Outgoing::default(),
            send_at: None,
            setup: None,
            places: None,
        })
    }

    fn work(&mut self) -> io::Result<LastWord> {
        loop {
            let pause = self.pause().or_else(|| self.children.pause());
            let room = if self.outgoing.is_empty() || self.pause().is_some() {
                PollFlags::empty()
            } else {
                PollFlags::OUT
            };
            let mut waiting = [
                PollFd::new(&self.control, PollFlags::IN | room),
                PollFd::new(&self.signals, PollFlags::IN),
                PollFd::new(&self.lease, PollFlags::IN),
            ];
            retry(|| poll(&mut waiting, pause.as_ref()))?;
            let orders = waiting[0].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
            let ended = !waiting[1].revents().is_empty();
            if !waiting[2].revents().is_empty() {
                drain(self.lease.as_fd())?;
                self.lease_is_over = true;
                self.children.fence();
            }
            if ended {
                self.reap()?;
            }
            if orders && let Some(last) = self.obey()? {
                return Ok(last);
            }
            self.children.remove_groups();
            if self.pause().is_some() {
                continue;
            }
            match self.outgoing.send(&self.control) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(LastWord::Vanished),
                Err(error) => return Err(error),
            }
        }
    }

    /// How long what is to be sent may wait.
    fn pause(&self) -> Option<Timespec> {
        let left = self.send_at?.checked_duration_since(Instant::now())?;
        Timespec::try_from(left).ok()
    }

    fn reap(&mut self) -> io::Result<()> {
        drain(self.signals.as_fd())?;
        for exited in self.children.reap() {
            self.tell(News::Exited(exited), []);
        }
        Ok(())
    }

    fn obey(&mut self) -> io::Result<Option<LastWord>> {
        match self.incoming.receive(&self.control) {
            Ok(0) => return Ok(Some(LastWord::Vanished)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(Some(LastWord::Vanished));
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let mut started = 0;
        while let Some(Request { order: Some(order) }) = self.incoming.frame()? {
            match order {
                Order::Setup(setup) => self.set_up(setup)?,
                Order::Kill(kill) => self.children.kill(kill.id, kill.signal),
                Order::Lease(lease) => self.renew(lease)?,
                Order::Farewell(_) => return Ok(Some(LastWord::Farewell)),
                Order::Spawn(spawn) => {
                    self.spawn(spawn)?;
                    started += 1;
                    if started % BATCH == 0 {
                        // What does not fit now is sent by the loop.
                        let _ = self.outgoing.send(&self.control);
                    }
                }
            }
        }
        Ok(None)
    }

    fn set_up(&mut self, setup: Setup) -> io::Result<()> {
        if setup.open_files > 0 {
            let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
            rustix::process::setrlimit(
                Resource::Nofile,
                Rlimit { current: Some(setup.open_files), maximum: hard },
            )?;
        }
        self.places = setup.places.clone().map(Into::into);
        self.setup = Some(setup);
        Ok(())
    }

    /// One that is over already ends at once.
    fn renew(&mut self, lease: wire::Lease) -> io::Result<()> {
        let until = Duration::from_millis(lease.until_ms.max(1));
        let it_value = Timespec::try_from(until).map_err(io::Error::other)?;
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        timerfd_settime(&self.lease, TimerfdTimerFlags::ABSTIME, &once)?;
        self.lease_is_over = until <= clock::since_boot();
        Ok(())
    }

    fn spawn(&mut self, spawn: Spawn) -> io::Result<()> {
        let stdin = if spawn.has_stdin { Some(self.incoming.fd()?) } else { None };
        let id = spawn.id;
        let (started, unix_ms) = (Instant::now(), clock::unix_ms());
        match self.start(&spawn, stdin.as_ref()) {
            Ok((pid, pipes, group)) => {
                self.children.add(id, pid, started, &spawn.env, group);
                self.tell(News::Started(wire::Started { id, unix_ms }), pipes);
                if self.lease_is_over {
                    self.children.fence();
                }
            }
            Err(failure) => {
                let stage = match failure.stage {
                    sys::Stage::Fork => wire::Stage::Fork,
                    sys::Stage::Group => wire::Stage::Group,
                    sys::Stage::Setup => wire::Stage::Setup,
                    sys::Stage::Cwd => wire::Stage::Cwd,
                    sys::Stage::Exec => wire::Stage::Exec,
                };
                self.tell(News::Failed(wire::Failed { id, stage: stage.into(), errno: failure.errno }), []);
            }
        }
        Ok(())
    }

    fn start(&mut self, spawn: &Spawn, stdin: Option<&OwnedFd>) -> Result<Begun, sys::Failure> {
        let (stdout, stdout_end) = pipe_with(PipeFlags::CLOEXEC).map_err(no_process)?;
        let (stderr, stderr_end) = pipe_with(PipeFlags::CLOEXEC).map_err(no_process)?;
        for reader in [&stdout, &stderr] {
            rustix::fs::fcntl_setfl(reader, OFlags::NONBLOCK).map_err(no_process)?;
        }
        let argv = c_strings(&spawn.argv)?;
        let env = c_strings(&spawn.env)?;
        let cwd = if spawn.cwd.is_empty() { None } else { Some(c_string(spawn.cwd.clone())?) };
        let group = spawn.limits.map(|limits| self.group(spawn.id, limits)).transpose()?;
        let doors = group.as_ref().map(Group::doors).transpose().map_err(no_group)?.unwrap_or_default();
        let doors: Vec<BorrowedFd<'_>> = doors.iter().map(AsFd::as_fd).collect();
        let plan = sys::Plan {
            programs: &programs(spawn)?,
            argv: &argv,
            env: &env,
            cwd: cwd.as_deref(),
            stdio: [stdin.unwrap_or(&self.nothing).as_fd(), stdout_end.as_fd(), stderr_end.as_fd()],
            nice: spawn.nice,
            groups: &doors,
        };
        match sys::spawn(&plan, &mut self.stack) {
            Ok(pid) => Ok((pid, [stdout, stderr], group)),
            Err(failure) => {
                self.children.remove_group(group);
                Err(failure)
            }
        }
    }

    fn group(&self, id: u64, limits: wire::Limits) -> Result<Group, sys::Failure> {
        let places = self.places.as_ref().ok_or(no_group(io::ErrorKind::Unsupported.into()))?;
        let wire::Limits { memory_bytes, cpu_milli, processes } = limits;
        let name = cgroup::name(std::process::id().cast_signed(), id);
        Group::make(places, &name, Limits { memory_bytes, cpu_milli, processes }).map_err(no_group)
    }

    fn tell(&mut self, news: News, fds: impl IntoIterator<Item = OwnedFd>) {
        match news {
            News::Started(_) if self.outgoing.is_empty() => self.send_at = Some(Instant::now() + START_NEWS),
            News::Started(_) => {}
            News::Failed(_) | News::Exited(_) => self.send_at = None,
        }
        self.outgoing.push(&Reply { news: Some(news) }, fds);
    }
}

/// Where the program may be: as given if it has a slash, else in each directory of the task's own `PATH`.
fn programs(spawn: &Spawn) -> Result<Vec<CString>, sys::Failure> {
    let program = spawn.argv.first().filter(|p| !p.is_empty()).ok_or(not_found())?;
    if program.contains(&b'/') {
        return Ok(vec![c_string(program.clone())?]);
    }
    let path = spawn.env.iter().rev().find_map(|entry| entry.strip_prefix(b"PATH="));
    let path = path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
    let mut found = Vec::new();
    for directory in path.split(|b| *b == b':') {
        let mut full = if directory.is_empty() { b".".to_vec() } else { directory.to_vec() };
        full.push(b'/');
        full.extend_from_slice(program);
        found.push(c_string(full)?);
    }
    Ok(found)
}

fn c_strings(strings: &[Vec<u8>]) -> Result<Vec<CString>, sys::Failure> {
    strings.iter().map(|s| c_string(s.clone())).collect()
}

fn c_string(bytes: Vec<u8>) -> Result<CString, sys::Failure> {
    CString::new(bytes)
        .map_err(|_| sys::Failure { stage: sys::Stage::Exec, errno: Errno::INVAL.raw_os_error() })
}

fn not_found() -> sys::Failure {
    sys::Failure { stage: sys::Stage::Exec, errno: Errno::NOENT.raw_os_error() }
}

/// The worker has tried it at its start: what fails now may pass.
fn no_group(error: io::Error) -> sys::Failure {
    sys::Failure { stage: sys::Stage::Group, errno: error.raw_os_error().unwrap_or(libc::EOPNOTSUPP) }
}

fn no_process(errno: Errno) -> sys::Failure {
    sys::Failure { stage: sys::Stage::Fork, errno: errno.raw_os_error() }
}

fn wait_readable(fd: BorrowedFd<'_>) {
    let _ = poll(&mut [PollFd::new(&fd, PollFlags::IN)], None);
    let _ = drain(fd);
}

/// Forgets the signals that have arrived, or that time is up: what follows looks at everything anyway.
fn drain(signals: BorrowedFd<'_>) -> io::Result<()> {
    let mut buffer = [0; 1024];
    match retry(|| rustix::io::read(signals, &mut buffer)) {
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

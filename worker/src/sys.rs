//! The few system calls that neither std nor rustix offers safely: starting a program with everything set
//! in the child, looking at children that ended, and taking signals as a file. All `unsafe` of the workspace
//! is here and in the folder below.
//!
//! Everything in this file but [`watch`] and [`spent`] is used by the spawner only, which is a process with one thread.
//! That is what makes `CLONE_VM | CLONE_VFORK` sound: nobody else can hold a lock or touch memory while the
//! child borrows it.
#![expect(
    unsafe_code,
    reason = "clone, wait4, waitid, getrusage, signalfd and signal masks have no safe wrapper"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

mod stdout;

pub use stdout::stdout_was_closed;

/// A program to start. The strings are what the child sees; nothing is added.
pub(crate) struct Plan<'a> {
    /// Paths to try one after another: one, or one per directory of `PATH`.
    pub programs: &'a [CString],
    pub argv: &'a [CString],
    pub env: &'a [CString],
    pub cwd: Option<&'a CStr>,
    /// What becomes standard input, output and error.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Added to the spawner's own niceness.
    pub nice: i32,
    /// Files of control groups that the child enters; three at most.
    pub groups: &'a [BorrowedFd<'a>],
}

/// How far a start got before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No process could be made.
    Fork,
    /// Its control groups could not be made or entered.
    Group,
    /// The process could not be prepared.
    Setup,
    /// The working directory could not be entered.
    Cwd,
    /// No program of the list could be executed.
    Exec,
}

/// A failed start: where, and the `errno`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub stage: Stage,
    pub errno: i32,
}

/// What the child reads, and where it leaves its failure. Shared memory between parent and child.
struct Order {
    programs: *const *const c_char,
    argv: *const *const c_char,
    env: *const *const c_char,
    cwd: *const c_char,
    stdio: [RawFd; 3],
    nice: c_int,
    /// -1: none.
    groups: [RawFd; 3],
    parent: libc::pid_t,
    no_signals: libc::sigset_t,
    failure: Option<Failure>,
}

/// Where children stand until they execute their program; reused for each start.
pub(crate) struct Stack(Vec<u128>);

impl Stack {
    /// The child calls a dozen system calls, with no frame above a few hundred bytes.
    const BYTES: usize = 64 * 1024;

    pub(crate) fn new() -> Stack {
        Stack(vec![0; Stack::BYTES / size_of::<u128>()])
    }
}

/// Starts a program in its own process group, with every signal at its default and unblocked, dead as soon as
/// this thread is, and no descriptor but 0, 1 and 2. Returns its process id once it executes the program.
///
/// May be called from a process with one thread only, with all signals blocked (see [`signals`]).
pub(crate) fn spawn(plan: &Plan<'_>, stack: &mut Stack) -> Result<i32, Failure> {
    let programs = pointers(plan.programs);
    let argv = pointers(plan.argv);
    let env = pointers(plan.env);
    let mut order = Order {
        programs: programs.as_ptr(),
        argv: argv.as_ptr(),
        env: env.as_ptr(),
        cwd: plan.cwd.map_or(ptr::null(), CStr::as_ptr),
        stdio: plan.stdio.map(|fd| fd.as_raw_fd()),
        nice: plan.nice,
        groups: std::array::from_fn(|n| plan.groups.get(n).map_or(-1, AsRawFd::as_raw_fd)),
        // SAFETY: getpid has no preconditions.
        parent: unsafe { libc::getpid() },
        no_signals: no_signals(),
        failure: None,
    };
    let top = stack.0.as_mut_ptr_range().end.cast::<c_void>();
    let order_at: *mut Order = &mut order;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: `top` is the aligned end of a live allocation that nobody else uses; `order` and all that it
    // points to outlive the call, because CLONE_VFORK suspends this (only) thread until the child has left
    // our memory.
    let pid = unsafe { libc::clone(child, top, flags, order_at.cast()) };
    if pid < 0 {
        return Err(Failure { stage: Stage::Fork, errno: errno() });
    }
    // SAFETY: the child has finished with `order`; volatile because the compiler did not see the child write.
    match unsafe { ptr::read_volatile(&raw const (*order_at).failure) } {
        None => Ok(pid),
        Some(failure) => {
            reap(pid);
            Err(failure)
        }
    }
}

/// The life of a child up to `execve`: system calls only, no allocation, no panic, no lock.
extern "C" fn child(order: *mut c_void) -> c_int {
    let order = order.cast::<Order>();
    // SAFETY: `order` is valid for the whole life of this function (see `spawn`), and all calls are
    // async-signal-safe with pointers that `spawn` made from live C strings.
    unsafe {
        // The session is the spawner's, without a terminal. One for each task would be a scheduling group for
        // each where the kernel groups by session: dear to make, slow to get its first turn, and blind to
        // `nice`.
        libc::setpgid(0, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != (*order).parent {
            libc::_exit(127);
        }
        // First of all: what follows counts. `0` is whoever writes it.
        for group in (*order).groups {
            if group >= 0 && libc::write(group, c"0".as_ptr().cast(), 1) != 1 {
                fail(order, Stage::Group);
            }
        }
        if libc::dup2((*order).stdio[0], 0) < 0
            || libc::dup2((*order).stdio[1], 1) < 0
            || libc::dup2((*order).stdio[2], 2) < 0
        {
            fail(order, Stage::Setup);
        }
        // Every descriptor is close-on-exec already; this is for one that somebody forgets. Old kernels lack
        // it.
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if !(*order).cwd.is_null() && libc::chdir((*order).cwd) < 0 {
            fail(order, Stage::Cwd);
        }
        if (*order).nice != 0 {
            libc::nice((*order).nice);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const (*order).no_signals, ptr::null_mut());
        execute(order)
    }
}

/// Tries each program; a directory of `PATH` that lacks it, or forbids it, does not end the search.
///
/// # Safety
/// As for [`child`], of which this is the end.
unsafe fn execute(order: *mut Order) -> ! {
    // SAFETY: see `child`.
    unsafe {
        let mut program = (*order).programs;
        let mut forbidden = false;
        loop {
            libc::execve(*program, (*order).argv, (*order).env);
            let error = *libc::__errno_location();
            let elsewhere = matches!(error, libc::ENOENT | libc::ENOTDIR | libc::EACCES);
            forbidden |= error == libc::EACCES;
            program = program.wrapping_add(1);
            if !elsewhere || (*program).is_null() {
                break;
            }
        }
        if forbidden && *libc::__errno_location() != libc::ENOEXEC {
            *libc::__errno_location() = libc::EACCES;
        }
        fail(order, Stage::Exec)
    }
}

/// # Safety
/// As for [`child`], of which this is the end.
unsafe fn fail(order: *mut Order, stage: Stage) -> ! {
    // SAFETY: see `child`.
    unsafe {
        let failure = Some(Failure { stage, errno: *libc::__errno_location() });
        ptr::write_volatile(&raw mut (*order).failure, failure);
        libc::_exit(127)
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn no_signals() -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set that it is given.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        set
    }
}

/// Puts every signal at its default, blocks all, and returns a descriptor that is readable when a child
/// ended.
pub(crate) fn signals() -> io::Result<OwnedFd> {
    // SAFETY: the sets are initialised before use, and the returned descriptor is ours alone.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, ptr::null_mut());
        let mut ended = no_signals();
        libc::sigaddset(&mut ended, libc::SIGCHLD);
        match libc::signalfd(-1, &ended, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Lets the runtime watch a descriptor for one thing only.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is one and the same open descriptor until it is dropped, which `AsyncFd` does
    // last.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}

/// Closes every descriptor above standard error but `keep`.
pub(crate) fn close_all_but(keep: BorrowedFd<'_>) {
    let keep = keep.as_raw_fd().unsigned_abs();
    // SAFETY: called first thing in a fresh process, where no Rust object owns any of these descriptors.
    unsafe {
        if keep > 3 {
            libc::syscall(libc::SYS_close_range, 3u32, keep - 1, 0u32);
        }
        libc::syscall(libc::SYS_close_range, keep + 1, u32::MAX, 0u32);
    }
}

/// A child that has ended, left as a zombie, so that its process group still has its number.
pub(crate) fn peek_ended() -> Option<i32> {
    // SAFETY: an all-zero siginfo is valid, and waitid fills it in.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let done = libc::waitid(libc::P_ALL, 0, &mut info, flags);
        (done == 0 && info.si_pid() != 0).then(|| info.si_pid())
    }
}

/// How a process ended and what it and the children it waited for used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// As of `wait(2)`.
    pub status: i32,
    pub user_us: u64,
    pub system_us: u64,
    pub peak_rss_bytes: u64,
}

/// Takes leave of a child that has ended (waits for it if it has not).
pub(crate) fn reap(pid: i32) -> Ended {
    let mut status = 0;
    // SAFETY: both out-pointers are valid; an all-zero rusage is valid.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        while libc::wait4(pid, &mut status, 0, &mut usage) < 0 && errno() == libc::EINTR {}
        usage
    };
    let Spent { user_us, system_us, peak_rss_bytes } = Spent::of(&usage);
    Ended { status, user_us, system_us, peak_rss_bytes }
}

/// What processes have used until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub user_us: u64,
    pub system_us: u64,
    pub peak_rss_bytes: u64,
}

impl Spent {
    fn of(usage: &libc::rusage) -> Spent {
        let micros = |t: libc::timeval| t.tv_sec.unsigned_abs() * 1_000_000 + t.tv_usec.unsigned_abs();
        Spent {
            user_us: micros(usage.ru_utime),
            system_us: micros(usage.ru_stime),
            peak_rss_bytes: usage.ru_maxrss.unsigned_abs() * 1024,
        }
    }
}

/// The processor time of this process and of those it has waited for; the peak is its own.
pub(crate) fn spent() -> Spent {
    let usage = |whose| {
        // SAFETY: the out-pointer is valid; an all-zero rusage is valid, and stays if the call fails.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(whose, &mut usage);
            Spent::of(&usage)
        }
    };
    let (own, others) = (usage(libc::RUSAGE_SELF), usage(libc::RUSAGE_CHILDREN));
    Spent {
        user_us: own.user_us + others.user_us,
        system_us: own.system_us + others.system_us,
        peak_rss_bytes: own.peak_rss_bytes,
    }
}

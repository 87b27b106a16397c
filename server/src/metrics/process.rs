//! What the kernel says of this process.

use std::fs;

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// Figures of this process; what the kernel does not tell is absent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_s: f64,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) most_files: Option<u64>,
}

/// Looks. Reads a few files of `/proc`: not for a thread that must not block.
pub(super) fn look() -> Process {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |name| field(&status, name).map(|kib| kib << 10);
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Process {
        cpu_s: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        resident_bytes: kib("VmRSS:"),
        virtual_bytes: kib("VmSize:"),
        threads: field(&status, "Threads:"),
        // One of them is the folder itself, as it is read.
        open_files: fs::read_dir("/proc/self/fd").ok().map(|files| (files.count() as u64).saturating_sub(1)),
        most_files: getrlimit(Resource::Nofile).current,
    }
}

/// The first number behind a name.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_somewhere_between_nothing_and_everything() {
        let before = look();
        let file = fs::File::open("/proc/self/status").expect("Linux");
        let after = look();
        assert!(after.cpu_s > 0.0 && after.cpu_s >= before.cpu_s, "{after:?}");
        assert!(after.resident_bytes.is_some_and(|bytes| bytes > 1 << 20), "{after:?}");
        assert!(after.virtual_bytes >= after.resident_bytes, "{after:?}");
        assert!(after.threads.is_some_and(|threads| threads >= 1), "{after:?}");
        assert!(after.open_files.is_some_and(|files| files >= 3), "{after:?}");
        assert!(after.most_files > after.open_files, "{after:?}");
        drop(file);
    }
}

//! What the kernel says of this process, for who watches the coordinator: it passes that on.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// This process alone, without what it runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    pub cpu_us: u64,
    /// 0 where the kernel does not tell.
    pub resident_bytes: u64,
    /// Attempts that it has run to their end.
    pub attempts_ended: u64,
}

impl Process {
    /// As it is now.
    pub(crate) fn look(attempts_ended: u64) -> Process {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let micros = |part: i64| u64::try_from(part).unwrap_or(0);
        let cpu_us = micros(cpu.tv_sec) * 1_000_000 + micros(cpu.tv_nsec) / 1_000;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Process { cpu_us, resident_bytes: resident_bytes(&status).unwrap_or(0), attempts_ended }
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_time_and_memory() {
        let process = Process::look(7);
        assert!(process.cpu_us > 0 && process.resident_bytes > 1 << 20, "{process:?}");
        assert_eq!(process.attempts_ended, 7);
        assert_eq!(resident_bytes("VmSize:\t9 kB\nVmRSS:\t  12 kB\n"), Some(12 << 10));
    }
}

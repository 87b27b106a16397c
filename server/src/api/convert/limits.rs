//! What one task may use, and what a worker's kernel can keep: from the wire, and back.

use taskq_core::job::Limits;
use taskq_proto::v1 as pb;

use crate::api::status::Invalid;

/// Below it no program can be started.
const MEMORY_LEAST: u64 = 1 << 20;
const MEMORY_MOST: u64 = 1 << 53;
/// The kernel's own least: a millisecond of each tenth of a second.
const CPU_LEAST: u32 = 10;
/// As many cores as a worker has slots.
const CPU_MOST: u32 = 4_096_000;
/// The kernel knows no more processes.
const PROCESSES_MOST: u32 = 1 << 22;

/// Which limits a job has.
///
/// # Errors
/// If one is beyond what a kernel takes, or the job is a call.
pub(super) fn check(spec: &pb::JobSpec) -> Result<Limits, Invalid> {
    let Some(limits) = spec.limits.as_ref().filter(|limits| **limits != pb::Limits::default()) else {
        return Ok(Limits::default());
    };
    if spec.call.is_some() {
        let why = "are kept for commands only: calls share the process that serves them";
        return Err(Invalid::new("", why));
    }
    let kinds = Limits {
        memory: limits.memory_bytes > 0,
        cpu: limits.cpu_milli > 0,
        processes: limits.processes > 0,
    };
    if kinds.memory && !(MEMORY_LEAST..=MEMORY_MOST).contains(&limits.memory_bytes) {
        return Err(Invalid::new("memory_bytes", format!("must be from {MEMORY_LEAST} (1 MiB) to 2^53")));
    }
    if kinds.cpu && !(CPU_LEAST..=CPU_MOST).contains(&limits.cpu_milli) {
        let why = format!("must be from {CPU_LEAST} to {CPU_MOST} thousandths of a core");
        return Err(Invalid::new("cpu_milli", why));
    }
    if limits.processes > PROCESSES_MOST {
        return Err(Invalid::new("processes", format!("must be from 1 to {PROCESSES_MOST}")));
    }
    Ok(kinds)
}

/// What a worker says that it can keep. What this version does not know, no job asks for.
pub(super) fn kept(limits: &[i32]) -> Limits {
    let has = |limit: pb::Limit| limits.contains(&limit.into());
    Limits { memory: has(pb::Limit::Memory), cpu: has(pb::Limit::Cpu), processes: has(pb::Limit::Processes) }
}

/// The same for the wire.
pub(super) fn wire(limits: Limits) -> Vec<i32> {
    let all = [
        (limits.memory, pb::Limit::Memory),
        (limits.cpu, pb::Limit::Cpu),
        (limits.processes, pb::Limit::Processes),
    ];
    all.into_iter().filter(|(kept, _)| *kept).map(|(_, limit)| limit.into()).collect()
}

/// In the words of the flags that asked for them.
pub(super) fn words(limits: Limits) -> String {
    let all = [
        (limits.memory, "memory (--max-memory)"),
        (limits.cpu, "processor time (--max-cpu)"),
        (limits.processes, "processes (--max-processes)"),
    ];
    let named: Vec<&str> = all.into_iter().filter(|(wanted, _)| *wanted).map(|(_, name)| name).collect();
    named.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(memory_bytes: u64, cpu_milli: u32, processes: u32) -> Result<Limits, String> {
        let limits = Some(pb::Limits { memory_bytes, cpu_milli, processes });
        check(&pb::JobSpec { limits, ..pb::JobSpec::default() }).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_are_within_what_a_kernel_takes() {
        let all = Limits { memory: true, cpu: true, processes: true };
        assert_eq!(checked(0, 0, 0), Ok(Limits::default()));
        for good in [(1 << 20, 10, 1), (1 << 53, 4_096_000, 1 << 22)] {
            assert_eq!(checked(good.0, good.1, good.2), Ok(all));
        }
        for bad in [(1, 0, 0), (1 << 54, 0, 0), (0, 9, 0), (0, 4_096_001, 0), (0, 0, (1 << 22) + 1)] {
            assert!(checked(bad.0, bad.1, bad.2).is_err(), "{bad:?}");
        }
        let limits = Some(pb::Limits { processes: 1, ..pb::Limits::default() });
        let call = pb::JobSpec { limits, call: Some(pb::Call::default()), ..pb::JobSpec::default() };
        assert!(check(&call).expect_err("a call").to_string().contains("commands only"));
    }

    #[test]
    fn what_a_worker_keeps_comes_back() {
        let some = Limits { memory: true, processes: true, ..Limits::default() };
        assert_eq!(kept(&wire(some)), some);
        assert_eq!(kept(&[0, 77]), Limits::default());
    }
}

"""What one measurement is, and how it is taken: wall time, and the CPU time of all that belongs to this run."""

import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """One case of one system in one turn."""

    group: str  # a key of report.GROUPS
    how: str  # what was done, where a system does it in more than one way
    durable: str  # what is on disk when a submit is acknowledged, and when a result is
    tasks: int
    per_second: float | None = None
    cpu_us_per_task: float | None = None
    latency_us: dict[str, float] | None = None  # p50, p99, max
    syncs_per_second: float | None = None  # of the disk at that time, if the system measures that itself

    def as_dict(self, turn: int, syncs_per_second: float) -> dict:
        return {**asdict(self), "turn": turn, "syncs_per_second": self.syncs_per_second or syncs_per_second}


def throughput(group: str, how: str, durable: str, tasks: int, work) -> Measured:
    """Times `work()`, which must check that all `tasks` were done."""
    cpu = tree_cpu_seconds()
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    cpu = tree_cpu_seconds() - cpu
    return Measured(group, how, durable, tasks, tasks / seconds, cpu / tasks * 1e6)


def lone(group: str, how: str, durable: str, calls: int, call) -> Measured:
    """Times `call(n)` one after the other, with nothing else to do; it must return `n`."""
    times = []
    cpu = tree_cpu_seconds()
    for n in range(calls):
        start = time.perf_counter()
        value = call(n)
        times.append((time.perf_counter() - start) * 1e6)
        expect(value, n, "value of a call")
    cpu = tree_cpu_seconds() - cpu
    return Measured(group, how, durable, calls, None, cpu / calls * 1e6, percentiles(times))


def percentiles(times_us: list[float]) -> dict[str, float]:
    times = sorted(times_us)
    at = lambda percent: times[math.ceil(len(times) * percent / 100) - 1]  # noqa: E731
    return {"p50": at(50), "p99": at(99), "max": times[-1]}


def expect(found, wanted, what: str) -> None:
    """A system that did not do the work has no figure."""
    if found != wanted:
        raise AssertionError(f"{what}: {found!r}, and {wanted!r} was due")


def tree_cpu_seconds() -> float:
    """User and system time of this process, of what it started and of all that these started, ended ones included."""
    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    for pid in descendants(os.getpid()):
        total += sum(_stat(pid)[1]) / TICKS
    return total


def descendants(of: int) -> list[int]:
    """All living processes below one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent, _ = _stat(int(entry.name))
            children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [of]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _stat(pid: int) -> tuple[int, tuple[int, int, int, int]]:
    """The parent of a process; its own user and system time and those of its ended children, in ticks."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0, (0, 0, 0, 0)  # it has just ended: from now on it is counted with its parent
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), tuple(int(field) for field in fields[11:15])

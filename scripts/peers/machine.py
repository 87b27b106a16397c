"""The machine: what it is, and what its disk does in the same run."""

import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

SYNCS = 300


def facts(folder: Path) -> dict[str, str]:
    """Told above the tables."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "kernel": platform.release(),
        "processor": f"{os.cpu_count()} cores, {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "file system of the data": _file_system(folder),
    }


def syncs_per_second(folder: Path) -> float:
    """Appends a page and syncs it, one after the other."""
    path = folder / "syncs"
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        page = b"x" * 4096
        start = time.perf_counter()
        for _ in range(SYNCS):
            os.write(file, page)
            os.fdatasync(file)
        return SYNCS / (time.perf_counter() - start)
    finally:
        os.close(file)
        path.unlink()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    """Of the mount with the longest path above the folder."""
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        mount, kind = line.split()[1:3]
        if folder.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]

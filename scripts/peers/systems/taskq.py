"""taskq itself, measured by its own bench: coordinator, worker and client as separate processes."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from daemon import first_line
from measure import Measured
from system import System

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = Path(os.environ.get("TASKQ_BIN_DIR", ROOT / "target" / "release")) / "taskq"
DURABLE = "submits and results: fdatasync before each acknowledgement"

#: Where a case and variant of the bench belongs, and what it is called there.
PLACES = {
    ("commands", "plain"): ("true", "one array"),
    ("commands", "output"): ("output", "one array, output kept"),
    ("calls", "array"): ("calls", "one array (a map)"),
    ("calls", "each"): ("calls", "each its own job"),
    ("latency", "call"): ("lone", "a call"),
    ("latency", "command"): ("lone", "a command"),
    ("submit", "single-1"): ("submit", "1 client"),
    ("submit", "single-64"): ("submit", "64 clients"),
}
CASES = ("commands", "calls", "latency", "submit")


class Taskq(System):
    name = "taskq"
    groups = ("true", "output", "calls", "lone", "submit")
    settings = f"`taskq bench {' '.join(CASES)} --json`: coordinator, one worker with 2 slots and client on loopback"

    def missing(self) -> str | None:
        if not PROGRAM.exists():
            return "not built: `make binaries`"
        done = subprocess.run([PROGRAM, "bench", "--help"], capture_output=True, timeout=30, check=False)
        return None if done.returncode == 0 else "this build has no `taskq bench`"

    def version(self) -> str:
        version = first_line([PROGRAM, "--version"]).removeprefix("taskq ")
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return f"{version} ({commit.stdout.strip()})" if commit.returncode == 0 else version

    def start(self, folder: Path) -> None:
        self.folder = folder

    def run(self) -> Iterator[Measured]:
        env = {**os.environ, "TMPDIR": str(self.folder)}
        argv = [PROGRAM, "bench", *CASES, "--json"]
        done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, timeout=600, check=True)
        for case in json.loads(done.stdout)["cases"]:
            place = PLACES.get((case["case"], case["variant"]))
            if place is None:
                continue
            cpu = case.get("cpu_us_per_task") or {}
            yield Measured(
                *place,
                DURABLE,
                case["tasks"],
                case["per_second"],
                sum(cpu.values()) if cpu else None,
                case["latency_us"],
            )

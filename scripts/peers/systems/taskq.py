"""taskq itself, measured by its own bench: coordinator, worker and client as separate processes."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from daemon import first_line, run
from measure import Measured
from system import System

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = Path(os.environ.get("TASKQ_BIN_DIR", ROOT / "target" / "release")) / "taskq"
DURABLE = "submits and results: fdatasync before each acknowledgement"

EACH = "each its own job"
#: Where a case and variant of the bench belongs, and what it is called there.
PLACES = {
    ("commands", "plain"): ("true", "one array"),
    ("commands", "output-2k"): ("output", "one array, output kept"),
    ("calls", "array"): ("calls", "one array (a map)"),
    ("calls", "array-async"): ("calls", "one array, event loop"),
    ("calls", "each"): ("calls", EACH),
    ("calls", "each-async"): ("calls", f"{EACH}, event loop"),
    ("latency", "call"): ("lone", "a call"),
    ("latency", "command"): ("lone", "a command"),
    ("latency", "cli"): ("lone", "`taskq run -- true`, whole process"),
    ("submit", "single-1"): ("submit", "1 client"),
    ("submit", "single-64"): ("submit", "64 clients"),
    ("submit", "bulk"): ("submit", "1 client, in bulk"),
}
# What no peer has: arrays of a million elements.
WITHOUT_PEER = {("submit", "array-1m")}
CASES = ("commands", "calls", "latency", "submit")


class Taskq(System):
    name = "taskq"
    groups = ("true", "output", "calls", "lone", "submit")
    settings = (
        f"`taskq bench CASE --slots 2 --json` of {', '.join(CASES)}: coordinator, one worker with 2 slots and client "
        "on loopback"
    )

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
        for case in CASES:
            # It compares every value itself, and fails if one is wrong or lacking.
            said = json.loads(
                run([PROGRAM, "bench", case, "--json", "--slots", "2", "--data", self.folder], seconds=300)
            )
            self.limits = {name: value for name, value in said["machine"].items() if isinstance(value, float)}
            for line in said["cases"]:
                if (line["case"], line["variant"]) not in WITHOUT_PEER:
                    yield measured(line)


def measured(line: dict) -> Measured:
    group, how = PLACES[line["case"], line["variant"]]
    cpu = sum(us for us in line["cpu_us_per_task"].values() if us is not None)
    # What it measured just before this line; only some are compared with the disk.
    limit = line["of_limit"] or {}
    syncs = limit["value"] if limit.get("limit") == "fdatasyncs" else None
    return Measured(group, how, DURABLE, line["tasks"], line["per_second"], cpu, line["latency_us"], syncs)

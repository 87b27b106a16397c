"""`xargs -P` and GNU parallel: no queue, nothing kept. The measure of what it costs to start a program."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from daemon import first_line, lacks
from measure import Measured, expect, throughput
from system import System

NONE = "none: nothing is kept"
OUTPUT_BYTES = 2048
#: Prints 2 KB from one process: the shell's own printf.
PRINTS = ["sh", "-c", f"printf %0{OUTPUT_BYTES}d 0"]


class Xargs(System):
    name = "xargs -P2"
    groups = ("true", "output")
    settings = (
        "`seq 10000 | xargs -P2 -n1 true`; with output "
        f"`seq 10000 | xargs -P2 -n1 {' '.join(PRINTS[:2])} '{PRINTS[2]}' >/dev/null`"
    )
    tasks = 10_000

    def missing(self) -> str | None:
        return lacks("xargs", "true")

    def version(self) -> str:
        return first_line(["xargs", "--version"]).split(") ")[-1]

    def start(self, folder: Path) -> None:
        self.folder = folder

    def run(self) -> Iterator[Measured]:
        argv = ["xargs", "-P2", "-n1"]
        yield throughput("true", "", NONE, self.tasks, lambda: feed([*argv, "true"], self.tasks))
        work = lambda: feed([*argv, *PRINTS], self.tasks)  # noqa: E731
        yield throughput("output", "to /dev/null", NONE, self.tasks, work)
        # That every task runs and prints is counted once a turn, outside of the measurement.
        printed = self.folder / "printed"
        with printed.open("wb") as out:
            feed([*argv, *PRINTS], 100, out)
        expect(printed.stat().st_size, 100 * OUTPUT_BYTES, "bytes printed by 100 tasks")


class Parallel(Xargs):
    name = "GNU parallel -j2"
    settings = (
        f"`seq 1000 | parallel -j2 true`; with output `seq 1000 | parallel -j2 '{PRINTS[2]} #' >/dev/null`, gathered in "
        "temporary files and passed on in one piece for each task"
    )
    tasks = 1_000

    def missing(self) -> str | None:
        return lacks("parallel", "true")

    def version(self) -> str:
        return first_line(["parallel", "--version"]).split()[-1]

    def run(self) -> Iterator[Measured]:
        argv = ["parallel", "--will-cite", "-j2"]
        work = lambda: feed([*argv, "true"], self.tasks)  # noqa: E731
        yield throughput("true", "", NONE, self.tasks, work)
        prints = [*argv, f"{PRINTS[2]} #"]
        work = lambda: feed(prints, self.tasks)  # noqa: E731
        yield throughput("output", "gathered, to /dev/null", NONE, self.tasks, work)
        printed = self.folder / "printed"
        with printed.open("wb") as out:
            feed(prints, 100, out)
        expect(printed.stat().st_size, 100 * OUTPUT_BYTES, "bytes printed by 100 tasks")


def feed(argv: list[str], tasks: int, out=subprocess.DEVNULL) -> None:
    """Gives a program the numbers from 1 on its standard input; it fails if one of its tasks does."""
    numbers = "".join(f"{n}\n" for n in range(1, tasks + 1)).encode()
    subprocess.run(argv, input=numbers, stdout=out, timeout=120, check=True)

"""`xargs -P` and GNU parallel: no queue, nothing kept. The measure of what it costs to start a program."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from daemon import first_line, lacks, run
from measure import Measured, expect, throughput
from system import System

NONE = "none: nothing is kept"
OUTPUT_BYTES = 2048
#: Prints 2 KB: its argument behind as many zeros as it takes.
PRINTS = ["printf", f"%0{OUTPUT_BYTES}d"]


class Xargs(System):
    name = "xargs -P2"
    groups = ("true", "output")
    settings = (
        f"`seq 10000 | xargs -P2 -n1 true`; with output `seq 10000 | xargs -P2 -n1 {' '.join(PRINTS)} >/dev/null`"
    )
    argv = ("xargs", "-P2", "-n1")
    tasks = 10_000
    output_goes = "to /dev/null"

    def missing(self) -> str | None:
        return lacks(self.argv[0])

    def version(self) -> str:
        return first_line([self.argv[0], "--version"]).split()[-1]

    def start(self, folder: Path) -> None:
        self.folder = folder

    def run(self) -> Iterator[Measured]:
        does_nothing, prints = [*self.argv, "true"], [*self.argv, *PRINTS]
        yield throughput("true", "", NONE, self.tasks, lambda: feed(does_nothing, self.tasks))
        yield throughput("output", self.output_goes, NONE, self.tasks, lambda: feed(prints, self.tasks))
        # That every task runs and prints is counted once a turn, outside of the measurement.
        printed = self.folder / "printed"
        with printed.open("wb") as out:
            feed(prints, 100, out)
        expect(printed.stat().st_size, 100 * OUTPUT_BYTES, "bytes printed by 100 tasks")


class Parallel(Xargs):
    name = "GNU parallel -j2"
    settings = (
        f"`seq 1000 | parallel -j2 true`; with output `seq 1000 | parallel -j2 {' '.join(PRINTS)} >/dev/null`, "
        "gathered in temporary files and passed on in one piece for each task"
    )
    argv = ("parallel", "--will-cite", "-j2")
    tasks = 1_000
    output_goes = "gathered, to /dev/null"


def feed(argv: list[str], tasks: int, out=subprocess.DEVNULL) -> None:
    """Gives a program the numbers from 1 on its standard input; it fails if one of its tasks does."""
    numbers = "".join(f"{n}\n" for n in range(1, tasks + 1)).encode()
    run(argv, input=numbers, stdout=out, text=False)

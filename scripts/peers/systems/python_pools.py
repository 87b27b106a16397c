"""Python's own pools: in the memory of one program, on one machine, gone with it."""

import multiprocessing
import platform
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from measure import Measured, expect, lone, throughput
from system import System

NONE = "none: tasks and results are in memory"
LONE = 500


def same(value: int) -> int:
    return value


class Executor(System):
    name = "Python ProcessPoolExecutor"
    groups = ("calls", "lone")
    settings = "`ProcessPoolExecutor(2)`: `submit` for each call, then `result()` of each future"
    calls = 20_000

    def version(self) -> str:
        return f"Python {platform.python_version()}"

    def start(self, folder: Path) -> None:
        self.pool = None
        self.pool = ProcessPoolExecutor(2)

    def warm(self) -> None:
        expect(sorted(self.pool.map(same, range(100))), list(range(100)), "values")

    def run(self) -> Iterator[Measured]:
        def work() -> None:
            futures = [self.pool.submit(same, n) for n in range(self.calls)]
            expect([future.result() for future in futures], list(range(self.calls)), "values")

        yield throughput("calls", "submit and gather", NONE, self.calls, work)
        yield lone("lone", "", NONE, LONE, lambda n: self.pool.submit(same, n).result())

    def stop(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


class Pool(System):
    name = "Python multiprocessing.Pool"
    groups = ("calls", "lone")
    settings = "`Pool(2)`: `map` in its default chunks, and `apply_async` for each call, then `get()` of each result"
    mapped = 1_000_000
    applied = 20_000

    def version(self) -> str:
        return f"Python {platform.python_version()}"

    def start(self, folder: Path) -> None:
        self.pool = None
        self.pool = multiprocessing.Pool(2)

    def warm(self) -> None:
        expect(self.pool.map(same, range(100)), list(range(100)), "values")

    def run(self) -> Iterator[Measured]:
        def mapped() -> None:
            expect(self.pool.map(same, range(self.mapped)), list(range(self.mapped)), "values")

        def applied() -> None:
            results = [self.pool.apply_async(same, (n,)) for n in range(self.applied)]
            expect([result.get() for result in results], list(range(self.applied)), "values")

        chunk = -(-self.mapped // 8)  # its own choice: four chunks a process
        yield throughput("calls", f"map, chunks of {chunk:,}", NONE, self.mapped, mapped)
        yield throughput("calls", "apply_async and gather", NONE, self.applied, applied)
        yield lone("lone", "apply", NONE, LONE, lambda n: self.pool.apply(same, (n,)))

    def stop(self) -> None:
        if self.pool is not None:
            self.pool.terminate()
            self.pool.join()

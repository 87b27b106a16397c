"""What a peer is to the run. A file of `systems/` a peer; `systems/__init__.py` lists them."""

from collections.abc import Iterator
from pathlib import Path

from measure import Measured


class System:
    """In each turn: start, warm, run, stop; one system at a time has the machine."""

    name = ""
    #: Which tables it belongs to (keys of report.GROUPS): told there if it is missing.
    groups: tuple[str, ...] = ()
    #: How it is set up and called, as Markdown; under the tables.
    settings = ""
    #: What the machine can do without any system, if this one measures that too.
    limits: dict[str, float] = {}

    def missing(self) -> str | None:
        """Why it cannot be measured here, if so."""
        return None

    def version(self) -> str:
        raise NotImplementedError

    def start(self, folder: Path) -> None:
        """Starts servers and workers, with all data below `folder`, and waits until they are ready."""

    def warm(self) -> None:
        """The first calls, which are not measured."""

    def run(self) -> Iterator[Measured]:
        """Does the work of each of its cases, and checks that it was done. Between two of them the disk is measured: a
        case is yielded when all of it is over."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ends what `start` started, also after a start that failed half-way."""

"""taskq against its peers: `python scripts/peers`, or rather `make bench-peers`, which installs them first.

In each turn every system is started, warmed, measured and stopped, one at a time, so that a machine that drifts drifts
for all. A system that is missing, or fails, is told in the table; one that fails makes the run fail."""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import machine
import report
from daemon import adopt_orphans
from measure import descendants
from systems import all_systems

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks" / "peers.md"
RAW = ROOT / "target" / "bench-peers.json"
#: One system's turn; taskq's bench of four cases is the longest.
TURN_SECONDS = 660


def main() -> int:
    options = parse()
    signal.signal(signal.SIGALRM, too_long)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    adopt_orphans()
    systems = [s for s in all_systems() if not options.only or s.name.split()[0].lower() in options.only]
    if not systems:
        sys.exit(f"no such system: {' '.join(options.only)}; there are {', '.join(names())}")
    with tempfile.TemporaryDirectory(prefix="taskq-peers-", dir=options.dir) as folder:
        folder = Path(folder)
        entries = {system.name: entry(system) for system in systems}
        run = {
            "repeat": options.repeat,
            "machine": machine.facts(folder),
            "systems": list(entries.values()),
        }
        try:
            for turn in range(options.repeat):
                for place, system in enumerate(systems):
                    if not entries[system.name]["trouble"]:
                        take_turn(system, entries[system.name], turn, folder / f"{turn}-{place}")
        finally:
            end_children()
    RAW.parent.mkdir(exist_ok=True)
    RAW.write_text(json.dumps(run, indent=1) + "\n")
    page = report.page(run)
    if options.only:
        print(page)  # a part of the systems is no comparison to be kept
    else:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page)
        say(f"written: {PAGE.relative_to(ROOT)}, {RAW.relative_to(ROOT)}")
    return 1 if any(entry["failed"] for entry in entries.values()) else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-peers", description=__doc__)
    repeat = int(os.environ.get("PEERS_REPEAT", "5"))
    parser.add_argument("--repeat", type=int, default=repeat, help="turns (PEERS_REPEAT; default: 5)")
    folder = os.environ.get("PEERS_DIR", "/var/tmp")
    parser.add_argument("--dir", type=Path, default=folder, help="where data goes: a real disk (PEERS_DIR; /var/tmp)")
    parser.add_argument("only", nargs="*", help=f"measure only these, and print the page: {', '.join(names())}")
    options = parser.parse_args()
    if not 1 <= options.repeat <= 50:
        parser.error("--repeat: between 1 and 50")
    return options


def names() -> list[str]:
    return sorted({system.name.split()[0].lower() for system in all_systems()})


def entry(system) -> dict:
    """What is known of a system; its measurements are added turn by turn."""
    trouble = system.missing()
    return {
        "name": system.name,
        "version": report.MISSING if trouble else system.version(),
        "settings": system.settings,
        "groups": list(system.groups),
        "trouble": f"not measured: {trouble}" if trouble else None,
        "failed": False,
        "measured": [],
        "limits": [],
    }


def take_turn(system, entry: dict, turn: int, folder: Path) -> None:
    start = time.monotonic()
    folder.mkdir()
    syncs = machine.syncs_per_second(folder)
    signal.alarm(TURN_SECONDS)
    try:
        try:
            system.start(folder)
            system.warm()
            for measured in system.run():
                before, syncs = syncs, machine.syncs_per_second(folder)
                entry["measured"].append(measured.as_dict(turn, (before + syncs) / 2))
                say(f"{system.name}: {tell(measured)}")
        finally:
            system.stop()
    except Exception as cause:  # whatever a peer's client raises: the other systems go on, and the run fails
        traceback.print_exc()
        entry["failed"] = True
        entry["trouble"] = f"failed: {cause}"
    finally:
        signal.alarm(0)
    if system.limits:
        entry["limits"].append(system.limits)
    say(f"{system.name}: {time.monotonic() - start:.1f} s, after {syncs:,.0f} syncs/s")


def tell(measured) -> str:
    words = [measured.group, measured.how]
    if measured.per_second is not None:
        words.append(f"{measured.per_second:,.0f}/s")
    if measured.latency_us:
        words.append("p50 {p50:,.0f} us, p99 {p99:,.0f} us".format(**measured.latency_us))
    if measured.cpu_us_per_task is not None:
        words.append(f"CPU {measured.cpu_us_per_task:,.0f} us")
    return " · ".join(word for word in words if word)


def too_long(*_) -> None:
    raise TimeoutError(f"a turn took more than {TURN_SECONDS} s")


def end_children() -> None:
    """What is left below this process is ours: it ends with the run."""
    for pid in descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

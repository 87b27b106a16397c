"""The page that a run writes: a table a group, medians with best and worst, and how each system was set up."""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Group:
    """A table: what is compared in it, and with what each row is, in the same turn."""

    title: str
    note: str
    ratio: str  # the heading of that column
    base: tuple[str, str] | None = None  # the row (system, how) that is 1.00; none: a sync of the disk


GROUPS = {
    "true": Group("Commands that do nothing", "`true`, two at a time.", "of xargs", ("xargs -P2", "")),
    "output": Group(
        "Commands that print 2 KB",
        "One process each, two at a time. taskq keeps what they print, durably; GNU parallel holds it for a while.",
        "of xargs",
        ("xargs -P2", "to /dev/null"),
    ),
    "calls": Group(
        "Calls: a function that returns its argument",
        "Two workers. Submitted, run, and every value back at the caller and checked.",
        "of taskq's",
        ("taskq", "each its own job"),
    ),
    "lone": Group(
        "A lone call, from submit to value",
        "One at a time, and nothing else to do. `syncs`: how many lone `fdatasync`s take as long as the p50.",
        "syncs",
    ),
    "submit": Group(
        "Durable single submits",
        "Nobody takes them: how fast can clients hand in one job each, and be told that it is safe? `a sync`: how many "
        "while the disk does one lone `fdatasync`.",
        "a sync",
    ),
}
MISSING = "—"


def page(run: dict) -> str:
    """Markdown of a run, as `__main__` gathers it."""
    lines = [
        "# taskq and its peers",
        "",
        "Written by `make bench-peers`; [how it is measured and read](README.md). All systems in one run on one",
        "machine, one at a time and in turns, with real servers on loopback.",
        "One turn." if run["repeat"] == 1 else f"Medians of {run['repeat']} turns, best and worst in brackets.",
        "",
    ]
    lines += [f"- {key}: {value}" for key, value in run["machine"].items()]
    lines += [*_limits(run), ""]
    for name, group in GROUPS.items():
        if any(name in system["groups"] for system in run["systems"]):
            lines += [f"## {group.title}", "", group.note, "", *_table(run, name, group), ""]
    lines += ["## Settings", ""]
    lines += [f"- **{system['name']}**: {system['settings']}." for system in run["systems"]]
    return "\n".join(lines) + "\n"


def _limits(run: dict) -> list[str]:
    """What the machine did without any system."""
    syncs = {(one["turn"], one["syncs_per_second"]) for system in run["systems"] for one in system["measured"]}
    lines = []
    if syncs:
        spread = _spread([rate for _, rate in syncs], _rate, high_is_good=True)
        lines.append(f"- `fdatasync`s of one appended page a second, one after the other: {spread}")
    taken = [limits for system in run["systems"] for limits in system["limits"]]
    for name in taken[0] if taken else []:
        spread = _spread([limits[name] for limits in taken], _rate, high_is_good=name.endswith("per_second"))
        lines.append(f"- {name.replace('_', ' ')}, by `taskq bench`: {spread}")
    return lines


def _table(run: dict, name: str, group: Group) -> list[str]:
    figures = "p50, ms | p99, ms" if name == "lone" else "a second | p50 / p99, ms"
    lines = [
        f"| system | version | {figures} | {group.ratio} | CPU µs a task | durable |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for system in run["systems"]:
        if name not in system["groups"]:
            continue
        rows = _rows(system, name)
        for (how, durable), taken in rows.items():
            title = f"{system['name']}, {how}" if how else system["name"]
            cpu = [one["cpu_us_per_task"] for one in taken if one["cpu_us_per_task"] is not None]
            cells = [
                title,
                system["version"],
                *_figures(taken, name == "lone"),
                _ratio(run, name, group, taken),
                _cpu(median(cpu)) if cpu else MISSING,
                durable,
            ]
            lines.append(f"| {' | '.join(cells)} |")
        if not rows or system["trouble"]:
            why = " ".join((system["trouble"] or "not measured").replace("|", "/").split())[:200]
            cells = [system["name"], system["version"], *[MISSING] * 4, why]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _rows(system: dict, group: str) -> dict[tuple[str, str], list[dict]]:
    """The measurements of a system in a group, those of one way of doing it together."""
    rows: dict[tuple[str, str], list[dict]] = {}
    for one in system["measured"]:
        if one["group"] == group:
            rows.setdefault((one["how"], one["durable"]), []).append(one)
    return rows


def _figures(taken: list[dict], lone: bool) -> list[str]:
    latencies = [one["latency_us"] for one in taken if one["latency_us"]]
    p50, p99 = ([one[end] for one in latencies] for end in ("p50", "p99"))
    if lone:
        return [_spread(p50, _ms), _spread(p99, _ms)]
    rates = [one["per_second"] for one in taken]
    ends = f"{_ms(median(p50))} / {_ms(median(p99))}" if latencies else MISSING
    return [_spread(rates, _rate, high_is_good=True), ends]


def _ratio(run: dict, name: str, group: Group, taken: list[dict]) -> str:
    """The median over the turns, each against its own turn: a machine that drifts does so for both."""
    if group.base is None:
        of_syncs = lambda one: (  # noqa: E731
            one["latency_us"]["p50"] * one["syncs_per_second"] / 1e6
            if name == "lone"
            else one["per_second"] / one["syncs_per_second"]
        )
        return f"{median(map(of_syncs, taken)):.2f}"
    base = {
        one["turn"]: one["per_second"]
        for system in run["systems"]
        if system["name"] == group.base[0]
        for one in system["measured"]
        if (one["group"], one["how"]) == (name, group.base[1])
    }
    ratios = [one["per_second"] / base[one["turn"]] for one in taken if one["turn"] in base]
    return f"{median(ratios):.2f}" if ratios else MISSING


def _spread(values: list[float], shown, high_is_good: bool = False) -> str:
    if len(values) < 2:
        return f"**{shown(values[0])}**"
    ends = sorted(values, reverse=high_is_good)
    return f"**{shown(median(values))}** ({shown(ends[0])} … {shown(ends[-1])})"


def _rate(value: float) -> str:
    return f"{value:,.0f}"


def _cpu(us: float) -> str:
    return f"{us:,.0f}" if us >= 10 else f"{us:.1f}"


def _ms(us: float) -> str:
    return f"{us / 1e3:,.2f}"

"""The page that a run writes: a table a group, medians with best and worst, and how each system was set up."""

from statistics import median

GROUPS = {
    "true": "Commands that do nothing",
    "output": "Commands that print 2 KB",
    "calls": "Calls: a function that returns its argument",
    "lone": "A lone call, from submit to value",
    "submit": "Durable single submits",
}
NOTES = {
    "true": "Two at a time, `true`.",
    "output": "Two at a time, one process each. taskq and GNU parallel keep the tasks' outputs apart.",
    "calls": "Two workers. Submitted, run, and every value back at the caller and checked.",
    "lone": "One at a time, nothing else to do.",
    "submit": "Nobody takes them: how fast can many clients hand in one job each, and be told that it is safe?",
}
MISSING = "—"


def page(run: dict) -> str:
    """Markdown of a run, as `__main__` gathers it."""
    lines = [
        "# taskq and its peers",
        "",
        "Written by `make bench-peers`; [how it is measured and read](README.md). All systems in one run on one machine, one",
        "at a time and in turns, with real servers on loopback. "
        f"Medians of {run['repeat']}, best and worst in brackets.",
        "",
    ]
    lines += [f"- {key}: {value}" for key, value in run["machine"].items()]
    syncs = run["syncs_per_second"]
    lines += [f"- fdatasync of one appended page, one after the other: {_spread(syncs, _rate)} a second", ""]
    for group, title in GROUPS.items():
        if any(group in system["groups"] for system in run["systems"]):
            lines += [f"## {title}", "", NOTES[group], "", *_table(run, group), ""]
    lines += ["## Settings", ""]
    lines += [f"- **{system['name']}**: {system['settings']}." for system in run["systems"]]
    return "\n".join(lines) + "\n"


def _table(run: dict, group: str) -> list[str]:
    lone = group == "lone"
    figures = "p50, ms | p99, ms" if lone else "a second | p50 / p99, ms"
    lines = [
        f"| system | version | {figures} | CPU µs a task | durable |",
        "|---|---|---:|---:|---:|---|",
    ]
    for system in run["systems"]:
        if group not in system["groups"]:
            continue
        rows = _rows(system, group)
        for (how, durable), taken in rows.items():
            name = f"{system['name']}, {how}" if how else system["name"]
            cells = _figures(taken, lone)
            cpu = [one["cpu_us_per_task"] for one in taken if one["cpu_us_per_task"] is not None]
            cells.append(f"{median(cpu):,.0f}" if cpu else MISSING)
            lines.append(f"| {name} | {system['version']} | {' | '.join(cells)} | {durable} |")
        if not rows or system["trouble"]:
            why = system["trouble"] or "not measured"
            why = " ".join(why.replace("|", "/").split())[:200]
            lines.append(f"| {system['name']} | {system['version']} | {MISSING} | {MISSING} | {MISSING} | {why} |")
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
        return [_spread(p50, _ms), _spread(p99, _ms)] if latencies else [MISSING, MISSING]
    rates = [one["per_second"] for one in taken]
    ends = f"{_ms(median(p50))} / {_ms(median(p99))}" if latencies else MISSING
    return [_spread(rates, _rate, high_is_good=True), ends]


def _spread(values: list[float], shown, high_is_good: bool = False) -> str:
    if len(values) < 2:
        return shown(values[0])
    ends = sorted(values, reverse=high_is_good)
    return f"**{shown(median(values))}** ({shown(ends[0])} … {shown(ends[-1])})"


def _rate(value: float) -> str:
    return f"{value:,.0f}"


def _ms(us: float) -> str:
    return f"{us / 1e3:,.2f}"

"""One experiment as Markdown: the table beside the paper's, then where each line comes from."""

import shlex
from collections.abc import Iterable, Mapping, Sequence

from reformer.training.progress import format_bytes, format_duration
from reproduction.experiments.experiment import SCALES, Experiment
from reproduction.experiments.lines import Line, machine, seeds_of
from reproduction.report.results import lines
from reproduction.rows import Row, values
from reproduction.tables import markdown

NOT_RUN = "not run"
# What is shown of an experiment: smoke rows only prove that it runs.
SHOWN_SCALES = tuple(scale for scale in SCALES if scale != "smoke")


def section(experiment: Experiment, rows: Sequence[Row], figures: Sequence[str]) -> str:
    """The Markdown of ``experiment``; ``figures`` are links to its drawings."""
    parts = [f"## {experiment.title}", _caption(experiment)]
    ran = {scale: lines(experiment, rows, scale) for scale in SHOWN_SCALES if scale in experiment.seeds}
    for scale, found in ran.items():
        if found:
            parts.append(f"### {experiment.name}, {scale}: {experiment.notes.get(scale, '')}".rstrip(": "))
            parts += [_grid(experiment, scale, found), *_unequal(found), *experiment.finding(found), _protocols(found)]
            parts.append(_origins(experiment, found))
    for scale in (scale for scale, found in ran.items() if not found):
        note = experiment.notes.get(scale, "")
        parts.append(f"{experiment.name}, {scale}: {NOT_RUN}{f' ({note})' if note else ''}.")
        if scale == "paper" and experiment.paper:
            parts.append(_grid(experiment, scale, {}))
        parts += _estimates(experiment, rows, scale)
    parts += [f"![{experiment.title}]({figure})" for figure in figures]
    return "\n\n".join(parts)


def _caption(experiment: Experiment) -> str:
    better = f", {experiment.better} is better" if experiment.better else ""
    beside = "; in each cell: paper | ours" if experiment.paper else ""
    return f"{experiment.metric}{better}{beside}. `reformer reproduce {experiment.name}`"


def _grid(experiment: Experiment, scale: str, found: Mapping[str, Line]) -> str:
    filled = {case.row: experiment.filled(case) for case in experiment.cases(scale, 0)}
    columns = [name for name in experiment.columns if any(name in its for its in filled.values())]
    cells = (
        [name, *(_cell(experiment, found.get(name), name, column, column in its) for column in columns)]
        for name, its in filled.items()
    )
    return markdown_table(["", *columns], cells)


def _cell(experiment: Experiment, line: Line | None, name: str, column: str, applies: bool) -> str:
    """The paper's value and ours; a dash where a line has no such value."""
    if not applies:
        return "–"
    cell = None if line is None else line.cell(column)
    ours = NOT_RUN if cell is None else cell.text(experiment.digits)
    if not experiment.paper:
        return ours
    paper = experiment.paper.get((name, column))
    return f"{'–' if paper is None else f'{paper:g}'} \\| **{ours}**"


def _unequal(found: Mapping[str, Line]) -> list[str]:
    """A warning where the means of a table, and so its curves, are not over the same seeds."""
    if len({tuple(row["seed"] for row in line.rows) for line in found.values()}) == 1:
        return []
    many = seeds_of(found.values())
    return [f"Lines have {many}, and each mean and curve is over its own; differences are over the seeds both have."]


def _protocols(found: Mapping[str, Line]) -> str:
    """How each line was measured, said once where all were measured alike."""
    of_line = {name: "; ".join(dict.fromkeys(row["protocol"] for row in line.rows)) for name, line in found.items()}
    if len(set(of_line.values())) == 1:
        return f"Measured: {next(iter(of_line.values()))}."
    return "\n".join(["Measured:", "", *(f"- {name}: {protocol}." for name, protocol in of_line.items())])


def _origins(experiment: Experiment, found: Mapping[str, Line]) -> str:
    head = ["line", "seeds", "steps", "time a seed", "peak memory", "hardware", "date", "commit", "command"]
    table = markdown_table(head, (_origin(experiment, line) for line in found.values()))
    changed = any(row["code"]["dirty"] for line in found.values() for row in line.rows)
    said = "\n\nWith changes: the checkout held changes that were not committed; [log.md](log.md) says which."
    return table + said * changed


def _origin(experiment: Experiment, line: Line) -> list[str]:
    machines = dict.fromkeys(map(machine, line.rows))
    # Seconds of one machine say nothing beside another's: a mean for each.
    seconds = [line.on(each).mean_cost("seconds") for each in machines]
    steps, peak = line.mean_cost("steps"), line.mean_cost("peak_memory_bytes")
    commits = dict.fromkeys(commit_of(row) for row in line.rows)
    dates = sorted({row["date"][:10] for row in line.rows})
    return [
        line.name,
        str(len(line.rows)),
        "" if steps is None else f"{steps:,.0f}",
        "; ".join("" if each is None else format_duration(each) for each in seconds),
        "" if peak is None else format_bytes(peak),
        "; ".join(machines),
        " to ".join(dict.fromkeys((dates[0], dates[-1]))),
        ", ".join(commits),
        f"`{_command(experiment, line)}`",
    ]


def _command(experiment: Experiment, line: Line) -> str:
    """The command that gives this line, whatever else ran with it when it was measured (each row keeps that)."""
    seeds = max(row["seed"] for row in line.rows) + 1
    what = ("--scale", line.scale, "--seeds", str(seeds), "--rows", line.name)
    return shlex.join(("reformer", "reproduce", experiment.name, *what))


def commit_of(row: Row) -> str:
    """The commit that measured a row, after those that trained what it measured."""
    code = row["code"]
    earlier = "".join(f"{commit[:10]}, " for commit in code.get("earlier_commits", []))
    return f"{earlier}{str(code['commit'])[:10]}" + (" with changes" if code["dirty"] else "")


def _estimates(experiment: Experiment, rows: Sequence[Row], scale: str) -> list[str]:
    """What the lines of a scale that was not run would take, from measured passes: the newest of every line."""
    current, ours = experiment.current(scale), (experiment.name, scale)
    here = [row for row in rows if values(row, "estimate", "scale") == ours]
    found = {row["row"]: row for row in here if current.get(row["row"]) == row["config_id"]}
    if not found:
        return []
    rest = [[name, *[NOT_RUN] * 8] for name in current if name not in found]
    head = ["what it would take", "passes", "a pass", "a seed", "peak memory", "hardware", "date", "commit", "command"]
    return [
        markdown_table(head, [*map(_estimate, found.values()), *rest]),
        "Estimated from one measured pass (forward, backward, update) on random tokens, evaluation not counted."
        + (_FROM_PARTS if any(map(_from_parts, found.values())) else ""),
    ]


_FROM_PARTS = (
    " From parts: from passes of one and of two layers of each kind, what the second adds for every layer, the rest once; long"
    " full attention from an eighth and a quarter of the length, continued by what grows with it and with its square."
)


def _from_parts(row: Row) -> bool:
    return len(row.get("measured_passes", ())) > 1


def _estimate(row: Row) -> list[str]:
    return [
        row["row"],
        f"{row['passes']:,}",
        f"{row['seconds_per_pass']:.3g} s{', from parts' * _from_parts(row)}",
        f"{row['total_seconds'] / 86_400:,.1f} days",
        format_bytes(row["peak_memory_bytes"]),
        machine(row),
        row["date"][:10],
        commit_of(row),
        f"`{row['command']}`",
    ]


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table with all its columns, also those that are empty."""
    return markdown([dict(zip(head, line, strict=True)) for line in lines], keep_empty=True)

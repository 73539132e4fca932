"""The rows of experiments as lines, and one experiment in words: in Markdown beside the paper's table, and in plain text."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from reformer.training.progress import format_bytes, format_duration
from reproduction.experiments.experiment import SCALES, Experiment
from reproduction.experiments.lines import Line, machine, seeds_of
from reproduction.experiments.registry import NAMES
from reproduction.rows import Row, kind, problem, read_rows, values
from reproduction.tables import markdown


def read_results(folder: Path) -> list[Row]:
    """The rows of experiments and estimates in ``folder``.

    Raises ValueError for a folder that is not there, a damaged row, and one of an experiment that we do not have.
    """
    if not folder.is_dir():
        raise ValueError(
            f"no folder of results {folder}; name it with --results, or measure with: reformer reproduce NAME"
        )
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        for row in read_rows(path):
            what = kind(row)
            if what in ("experiment", "estimate"):
                if row[what] not in NAMES:
                    raise ValueError(
                        f"{path}: a row of {what} {row[what]!r}, which is none of {', '.join(NAMES)}; mend it"
                    )
                if (wrong := problem(row)) is not None:
                    raise ValueError(f"{path}: a row of {what} {row[what]!r}: {wrong}; mend or remove it")
                found.append(row)
    return found


def lines(experiment: Experiment, rows: Iterable[Row], scale: str) -> dict[str, Line]:
    """The lines of ``experiment`` that were run at ``scale`` by name, in the experiment's order.

    Rows of a config that the experiment no longer has do not count: beside its notes they would say what is not so. Of each
    seed the newest row counts. Raises ValueError for seeds that were measured on different data: a mean over them means nothing.
    """
    current = experiment.current(scale)
    found: dict[str, dict[int, Row]] = {name: {} for name in current}
    for row in rows:
        is_ours = row.get("experiment") == experiment.name and row["scale"] == scale
        if is_ours and current.get(row["row"]) == row["config_id"]:
            found[row["row"]][row["seed"]] = row
    for name, seeds in found.items():
        # The first rows kept no checksums, and what is drawn from seeds has none.
        data = [row["checksums"] for row in seeds.values() if row.get("checksums")]
        if any(each != data[0] for each in data):
            raise ValueError(
                f"{experiment.name}, {scale}, {name}: its seeds were measured on different data (checksums differ: "
                f"{', '.join(row['date'] for row in seeds.values())}); measure them anew on one, or remove the others"
            )
    return {
        name: Line(name, scale, tuple(seeds[seed] for seed in sorted(seeds))) for name, seeds in found.items() if seeds
    }


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


def listing(experiment: Experiment, rows: Sequence[Row]) -> list[str]:
    """The lines of ``experiment`` in ``reformer reproduce --list``: a head, and one for each scale that exists."""
    scales = [scale for scale in SHOWN_SCALES if scale in experiment.seeds]
    return [f"{experiment.name}: {experiment.title}"] + [f"    {_scale(experiment, rows, scale)}" for scale in scales]


def _scale(experiment: Experiment, rows: Sequence[Row], scale: str) -> str:
    found, names = lines(experiment, rows, scale), list(experiment.current(scale))
    wanted = experiment.headline if experiment.headline and experiment.headline[0] in names else None
    name, column = wanted or (names[0], experiment.columns[0])
    paper = experiment.paper.get((name, column))
    beside = "" if paper is None else f"paper {paper:g}, "
    run = f"; {len(found)} of {len(names)} lines run" if found else ""
    return f"{scale}: {name}, {column}: {beside}ours {_ours(experiment, found.get(name), column)}{run}"


def _ours(experiment: Experiment, line: Line | None, column: str) -> str:
    cell = None if line is None else line.cell(column)
    if line is None or cell is None:
        return NOT_RUN
    last = line.rows[-1]
    # Seconds of another machine say nothing of this one's.
    seconds = line.on(machine(last)).mean_cost("seconds")
    how = [f"seeds: {len(cell.values)}", machine(last)]
    how += [] if seconds is None else [f"{format_duration(seconds)} a seed"]
    return f"{cell.text(experiment.digits)} ({', '.join([*how, last['date'][:10]])})"

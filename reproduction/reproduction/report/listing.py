"""An experiment in a few lines of plain text: what it is, the paper's number, ours, and where that was measured."""

from collections.abc import Sequence

from reformer.training.progress import format_duration
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.lines import Line, machine
from reproduction.report.results import lines
from reproduction.report.section import NOT_RUN, SHOWN_SCALES
from reproduction.rows import Row


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

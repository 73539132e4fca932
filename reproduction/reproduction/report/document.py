"""The whole report: what was reproduced, at which scale, with what result; and what was not run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from reformer.training.checkpoint import write_durably
from reproduction.experiments.experiment import Experiment
from reproduction.experiments.lines import Line
from reproduction.experiments.registry import NAMES, experiment
from reproduction.figures import Curve, Panel, draw
from reproduction.page import html_page
from reproduction.report.section import NOT_RUN, SHOWN_SCALES, lines, markdown_table, read_results, section
from reproduction.rows import Row

TITLE = "Results: the Reformer, reproduced"
_INTRODUCTION = """# Results: the Reformer, reproduced

Made by `reformer report` from the rows in `results/`; nobody types a number. A value is the mean over the seeds ± their
sample standard deviation; one without ± comes from a single seed. "The seed-to-seed spread" is one such standard deviation
(of single runs: the root of the mean variance of two lines), not a test of significance. Scales: *laptop* runs on two CPU
cores, mostly in at most half an hour for a line and seed, *gpu* on one accelerator in slices that resume, *paper* is the
full setting. What was not run says so. Rows of a configuration that an experiment no longer has stay in `results/`, but are
not shown."""

# The survey of 2026 asked seven things of the paper and found the last three missing.
_SURVEY = (
    ("source code", "[this repository](../README.md); every row names its commit"),
    (
        "datasets",
        "enwik8, official download, checksum verified (`reformer data enwik8`); [photographs](images.md); "
        "[English-German pairs](translation.md); synthetic tasks drawn from seeds",
    ),
    ("hardware", "in every row and in the card of every run"),
    (
        "experiment setup",
        "one module for each experiment in [reproduction](../reproduction/reproduction/experiments); complete configs in every "
        "run folder; how they differ from the paper's: [differences.md](differences.md)",
    ),
    ("pseudocode", "[algorithm.md](algorithm.md)"),
    (
        "dataset splits",
        "in the card of every corpus and run, with checksums: enwik8 90M / 5M / 5M bytes, [pictures](images.md), "
        "[pairs](translation.md)",
    ),
    ("software versions", "in every row of [results](../results); exact pins in [constraints.txt](../constraints.txt)"),
)


def write_report(results: Path, document: Path) -> list[Path]:
    """Write ``document`` (.md), the page beside it (.html) and the drawings in a folder of its name; the files written."""
    rows = read_results(results)
    folder = document.parent / document.stem
    experiments = [experiment(name) for name in NAMES]
    drawn: list[Path] = []
    sections = []
    for each in experiments:
        here = []
        for scale in SHOWN_SCALES:
            path = folder / f"{each.name}-{scale}.svg"
            if scale in each.seeds and draw_curves(each, scale, lines(each, rows, scale), path):
                here.append(path)
            else:
                # What an earlier report drew from rows that are gone.
                path.unlink(missing_ok=True)
        drawn += here
        sections.append(section(each, rows, [path.relative_to(document.parent).as_posix() for path in here]))
    parts = [_INTRODUCTION, *_found(experiments, rows), _summary(experiments, rows), *sections]
    parts += ["## What a reader needs to repeat it", markdown_table(("question", "answer"), _SURVEY)]
    text = "\n\n".join(parts) + "\n"
    page = document.with_suffix(".html")
    document.parent.mkdir(parents=True, exist_ok=True)
    write_durably(document, text.encode())
    write_durably(page, html_page(TITLE, text, document.parent).encode())
    return [document, page, *drawn]


def draw_curves(experiment: Experiment, scale: str, found: Mapping[str, Line], path: Path) -> bool:
    """A curve for each line, the mean over seeds with their range; whether any line has one.

    Lines that fill other columns are in other units, and so in a panel of their own, which is called as those columns.
    """
    filled = {case.row: ", ".join(case.columns) for case in experiment.cases(scale, 0)}
    drawn = [
        (filled[name], _mean_curve(line)) for name, line in found.items() if any(row.get("curve") for row in line.rows)
    ]
    if experiment.curve is None or not drawn:
        return False
    labels = dict(zip(("x_label", "y_label"), experiment.curve, strict=True))
    panels = []
    units = list(dict.fromkeys(columns for columns, _ in drawn))
    for columns in units:
        title = columns if len(units) > 1 else f"{experiment.name} ({scale})"
        curves = [curve for its, curve in drawn if its == columns]
        panels.append(Panel(title=title, curves=curves, log_axes=experiment.log_axes, **labels))
    draw(panels, path)
    return True


def _mean_curve(line: Line) -> Curve:
    by_x: dict[float, list[float]] = {}
    for row in line.rows:
        for x, y in row.get("curve") or ():
            by_x.setdefault(x, []).append(y)
    points = [(x, fmean(ys), min(ys), max(ys)) for x, ys in sorted(by_x.items())]
    x, y, low, high = zip(*points)
    return Curve(label=line.name, x=x, y=y, low=low, high=high)


def _found(experiments: Sequence[Experiment], rows: Sequence[Row]) -> list[str]:
    """What every experiment says of its own lines at each scale: the first thing a reader asks."""
    points = [
        f"- `{each.name}`, {scale}: {sentence}"
        for each in experiments
        for scale in SHOWN_SCALES
        if scale in each.seeds
        for sentence in each.finding(lines(each, rows, scale))
    ]
    return ["## What was found", "\n".join(points)] if points else []


def _summary(experiments: Sequence[Experiment], rows: Sequence[Row]) -> str:
    head = ["name", "what", *SHOWN_SCALES]
    states = ([_state(each, rows, scale) for scale in SHOWN_SCALES] for each in experiments)
    return markdown_table(head, ([f"`{each.name}`", each.title, *its] for each, its in zip(experiments, states)))


def _state(each: Experiment, rows: Sequence[Row], scale: str) -> str:
    if scale not in each.seeds:
        return "–"
    found = lines(each, rows, scale)
    if not found:
        return NOT_RUN
    seeds = sorted({len(line.rows) for line in found.values()})
    many = "–".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    return f"{len(found)} of {len(each.current(scale))} lines, {many} seed{'s' * (many != '1')}"

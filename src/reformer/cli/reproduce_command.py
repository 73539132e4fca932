"""``reformer reproduce NAME --scale ...``: a table or figure of the paper, measured here."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from reformer.cli.parsing import UsageError, parse

if TYPE_CHECKING:
    from reformer.experiments.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """What of it to run, and where rows and runs are kept."""

    scale: str = "laptop"
    """smoke (seconds), laptop (two cores), gpu (one accelerator) or paper (the full setting)."""
    seeds: int | None = None
    """Seeds 0 .. N-1; default: the experiment's own number."""
    rows: tuple[str, ...] = ()
    """Only these lines of the table; default: all."""
    resume: bool = True
    """Go on where an earlier command stopped; --no-resume: finished lines run again, trainings from their start (what was there
    is kept as NAME.before)."""
    results: Path = Path("results")
    """Folder of the .jsonl files: finished lines are appended, and not run again."""
    work: Path = Path("runs/reproduce")
    """Folder of the runs, from which an interrupted one continues."""
    cache_dir: Path = Path("~/.cache/reformer")
    """Where prepared corpora are kept."""
    estimate: bool = False
    """Train nothing: measure a pass of each training here (of deep models and long full attention: parts of one), and say what the
    whole would take."""
    list: bool = False
    """List the experiments: what each is, and the paper's number beside ours, where and when that was measured."""


def run(arguments: Sequence[str]) -> int:
    """Parse, run case by case, and say where the rows are."""
    from tyro.conf import Positional

    @dataclass(frozen=True, kw_only=True)
    class Arguments(ReproduceOptions):
        name: Annotated[Positional[str | None], "An experiment; --list names them."] = None

    options = parse(
        Arguments,
        arguments,
        prog="reformer reproduce",
        description="Measure a table or figure of the paper; interrupt it as you like, the same command continues.",
    )
    if options.list:
        _print_list(options.results.expanduser(), options.name)
        return 0
    if options.name is None:
        raise UsageError("name an experiment; reformer reproduce --list shows them")
    return _reproduce(options.name, options, ["reformer", "reproduce", *arguments])


def _reproduce(name: str, options: ReproduceOptions, command: list[str]) -> int:
    from reformer.experiments.experiment import Stopped
    from reformer.experiments.registry import experiment
    from reformer.experiments.running import require_scale, run_experiment

    chosen = experiment(name)
    require_scale(chosen, options.scale)
    seeds = chosen.seeds[options.scale] if options.seeds is None else options.seeds
    if seeds < 1:
        raise UsageError(f"--seeds must be at least 1, got {seeds}")
    print(f"{chosen.title}\n{options.scale}: {chosen.notes.get(options.scale, '')}")
    if options.estimate:
        _estimate(chosen, options, command)
        return 0
    try:
        run_experiment(
            chosen,
            options.scale,
            range(seeds),
            results=options.results.expanduser(),
            work=options.work.expanduser(),
            cache_dir=options.cache_dir.expanduser(),
            command=command,
            rows=options.rows,
            resume=options.resume,
        )
    except Stopped as stop:
        print(stop)
        return 0
    print(f"kept in {options.results / name}.jsonl; next: reformer report")
    return 0


def _estimate(chosen: "Experiment", options: ReproduceOptions, command: list[str]) -> None:
    from reformer.experiments.estimating import FILE, estimate_experiment
    from reformer.training.progress import format_bytes, format_duration

    found = estimate_experiment(
        chosen, options.scale, results=options.results.expanduser(), command=command, rows=options.rows
    )
    for row in found:
        total, memory = format_duration(row["total_seconds"]), format_bytes(row["peak_memory_bytes"])
        print(f"{row['row']}: {row['passes']:,} passes of {row['seconds_per_pass']:.3g} s, {total} a seed, {memory}")
    print(f"kept in {options.results / FILE}; next: reformer report")


def _print_list(results: Path, name: str | None) -> None:
    from reformer.experiments.registry import NAMES, experiment
    from reformer.experiments.report.aggregate import read_results
    from reformer.experiments.report.listing import listing

    chosen = [experiment(each) for each in (NAMES if name is None else (name,))]
    if not results.is_dir():
        print(f"no folder {results} here: what was measured is not known (--results FOLDER)", file=sys.stderr)
    rows = read_results(results) if results.is_dir() else []
    for each in chosen:
        print("\n".join(listing(each, rows)))

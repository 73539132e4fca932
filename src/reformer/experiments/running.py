"""Running an experiment: case by case, each recorded as one row the moment it is finished, none run twice."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

from reformer.bench.timing import NotRun
from reformer.experiments.experiment import Case, Experiment, Place, Result, short_id
from reformer.experiments.row_checks import problem
from reformer.training.loop import TrainingDiverged
from reformer.training.rows import Row, append_line, provenance, read_rows

Notice = Callable[[str], None]


def run_experiment(
    experiment: Experiment,
    scale: str,
    seeds: Iterable[int],
    *,
    results: Path,
    work: Path,
    cache_dir: Path,
    command: list[str],
    rows: tuple[str, ...] = (),
    resume: bool = True,
    notice: Notice = print,
) -> list[Row]:
    """Run what is not finished yet of ``experiment`` at ``scale``, seed by seed; the rows of all its finished cases.

    ``results`` is the folder of the .jsonl files, ``work`` that of the runs (which resume). ``rows`` names the lines to
    run; none: all. ``resume=False`` runs finished lines again too, from their start. A line that cannot be measured (no
    memory, a loss that diverges) does not keep the others from it. Raises ValueError for a scale or line that the
    experiment does not have, Stopped after a signal, and in the end LinesNotRun if there are such lines.
    """
    path = results / f"{experiment.name}.jsonl"
    cases = chosen_cases(experiment, scale, seeds, rows)
    open_rows(path)
    # Of the code that this process has loaded, whatever is committed while it runs.
    made_by = provenance(command)
    done: list[Row] = []
    failed: list[str] = []
    for case in cases:
        label = f"{experiment.name} {scale} · {case.row} · seed {case.seed}"
        # Read anew each time: another process may have finished it.
        row = _finished(read_rows(path), experiment, scale, case) if resume else None
        if row is not None:
            notice(f"{label}: {_values(row)} (in {path}: {_origin(row)}; measure it here: --results OTHER_FOLDER)")
            done.append(row)
            continue
        notice(f"{label}: running")
        try:
            result = case.run(Place(work=work, cache_dir=cache_dir, command=command, resume=resume))
        except (NotRun, TrainingDiverged) as error:
            notice(f"{label}: not run: {error}")
            failed.append(f"{case.row}, seed {case.seed} ({error})")
            continue
        row = _row(experiment, scale, case, result, made_by)
        if not all(map(math.isfinite, row["columns"].values())):
            notice(f"{label}: {_values(row)}: not a number, not kept")
            failed.append(f"{case.row}, seed {case.seed} (not a number)")
            continue
        notice(f"{label}: {_values(row)}")
        if not resume or _finished(read_rows(path), experiment, scale, case) is None:
            _append(path, row, notice)
        done.append(row)
    if failed:
        raise LinesNotRun(f"not run: {'; '.join(failed)}; the other lines are in {path}")
    return done


class LinesNotRun(Exception):
    """Some lines of an experiment could not be measured; the others were."""


def _values(row: Row) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in row["columns"].items())


def _origin(row: Row) -> str:
    hardware, commit = row["hardware"], row["code"]["commit"] or "no commit"
    return f"{', '.join(hardware['gpus']) or hardware['cpu']}, {row['date'][:10]}, {commit[:10]}"


def _append(path: Path, row: Row, notice: Notice) -> None:
    line = json.dumps(row, sort_keys=True, allow_nan=False)
    try:
        append_line(path, line)
    except OSError as error:
        # Hours of measuring must not end with a disk: what cannot be kept is shown whole.
        notice(line)
        raise OSError(
            f"cannot append to {path} ({error.strerror}); the row stands above: free that place and append it by hand"
        ) from error


def open_rows(path: Path) -> list[Row]:
    """The rows of ``path``, to which more can be appended: hours of measuring must not end at a file that cannot be written.

    Raises ValueError, with the reason, where they cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as error:
        raise ValueError(
            f"cannot write {path} ({error.strerror}); free that place or choose another folder with --results"
        ) from error
    return read_rows(path)


def require_scale(experiment: Experiment, scale: str) -> None:
    """Raise ValueError if the experiment has no such scale."""
    if scale not in experiment.seeds:
        raise ValueError(f"{experiment.name} has no scale {scale!r}; scales: {', '.join(experiment.seeds)}")


def chosen_cases(experiment: Experiment, scale: str, seeds: Iterable[int], rows: tuple[str, ...]) -> list[Case]:
    """The cases of these lines (none: all). Raises ValueError for a scale or line that the experiment does not have."""
    require_scale(experiment, scale)
    cases = [case for seed in seeds for case in experiment.cases(scale, seed)]
    names = list(dict.fromkeys(case.row for case in cases))
    for row in rows:
        if row not in names:
            near = get_close_matches(row, names, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}? " if near else ""
            listed = ", ".join(map(repr, names))
            raise ValueError(f"{experiment.name} at {scale} has no line {row!r}; {hint}lines: {listed}")
    return [case for case in cases if not rows or case.row in rows]


def _finished(known: list[Row], experiment: Experiment, scale: str, case: Case) -> Row | None:
    wanted = (experiment.name, scale, case.row, case.seed, short_id(case.config))
    for row in reversed(known):
        is_it = tuple(row.get(name) for name in ("experiment", "scale", "row", "seed", "config_id")) == wanted
        if is_it and problem(row, "experiment") is None:
            return row
    return None


def _row(experiment: Experiment, scale: str, case: Case, result: Result, made_by: Row) -> Row:
    # A misspelt column must fail here, not be missing from a report months later.
    assert set(result.columns) == set(experiment.filled(case)), f"{experiment.name}, {case.row}: {[*result.columns]}"
    code = dict(made_by["code"])
    earlier = [commit for commit in result.trained_by if commit != code["commit"]]
    if earlier:
        code["earlier_commits"] = earlier
    return {
        "experiment": experiment.name,
        "scale": scale,
        "row": case.row,
        "seed": case.seed,
        "config_id": short_id(case.config),
        "columns": dict(result.columns),
        "metric": experiment.metric,
        "cost": dict(result.cost),
        "curve": result.curve,
        "protocol": result.protocol,
        "checksums": None if result.checksums is None else dict(result.checksums),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **made_by,
        "code": code,
    }

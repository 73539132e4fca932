"""Running an experiment: case by case, each recorded as one row the moment it is finished, none run twice."""

import math
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path

from reproduction.case import Case, Place, take_turns
from reproduction.experiments.experiment import Experiment
from reproduction.rows import Row, RowFile, provenance


class LinesNotRun(Exception):
    """Some lines of an experiment could not be measured; the others were."""


def run_experiment(
    experiment: Experiment,
    scale: str,
    seeds: Iterable[int],
    place: Place,
    *,
    results: Path,
    rows: tuple[str, ...] = (),
    notice: Callable[[str], None] = print,
) -> list[Row]:
    """Run what is not finished yet of ``experiment`` at ``scale``, seed by seed; the rows of all its finished cases.

    ``results`` is the folder of the .jsonl files. ``rows`` names the lines to run; none: all. Without ``place.resume`` finished
    lines run again too, from their start. A line that cannot be measured (no memory, a loss that diverges) does not keep the
    others from it. Raises ValueError for a scale or line that the experiment does not have, Stopped after a signal, and in the
    end LinesNotRun if there are such lines.
    """
    path = results / f"{experiment.name}.jsonl"
    cases = chosen_cases(experiment, scale, seeds, rows)
    # By the code that this process has loaded, whatever is committed while it runs.
    file = RowFile(path, provenance(place.command), notice)
    done: list[Row] = []
    failed: list[str] = []
    for case in cases:
        label, what = f"{experiment.name} {scale} · {case.row} · seed {case.seed}", experiment.what(scale, case)
        row = file.finished(what) if place.resume else None
        if row is not None:
            notice(f"{label}: {_values(row)} (in {path}: {_origin(row)}; measure it here: --results OTHER_FOLDER)")
            done.append(row)
            continue
        notice(f"{label}: running")
        ((_, measured),) = take_turns([case], place)
        if "not_run" in measured:
            notice(f"{label}: not run: {measured['not_run']}")
            failed.append(f"{case.row}, seed {case.seed} ({measured['not_run']})")
            continue
        # A misspelt column must fail here, not be missing from a report months later.
        assert set(measured["columns"]) == set(experiment.filled(case)), f"{experiment.name}, {case.row}: {measured}"
        if not all(map(math.isfinite, measured["columns"].values())):
            notice(f"{label}: {_values(measured)}: not a number, not kept")
            failed.append(f"{case.row}, seed {case.seed} (not a number)")
            continue
        notice(f"{label}: {_values(measured)}")
        # Another process may have finished it meanwhile.
        known = file.finished(what) if place.resume else None
        done.append(known or file.add(what | {"metric": experiment.metric} | _whole(measured, file.common["code"])))
    if failed:
        raise LinesNotRun(f"not run: {'; '.join(failed)}; the other lines are in {path}")
    return done


def _whole(measured: Row, code: Row) -> Row:
    row = {"curve": None, "checksums": None, **measured}
    earlier = [commit for commit in row.pop("trained_by", ()) if commit != code["commit"]]
    return row | {"code": code | {"earlier_commits": earlier}} if earlier else row


def _values(row: Row) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in row["columns"].items())


def _origin(row: Row) -> str:
    hardware, commit = row["hardware"], row["code"]["commit"] or "no commit"
    return f"{', '.join(hardware['gpus']) or hardware['cpu']}, {row['date'][:10]}, {commit[:10]}"


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

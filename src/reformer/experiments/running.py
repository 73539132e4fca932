"""Running an experiment: case by case, each recorded as one row the moment it is finished, none run twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

from reformer.experiments.experiment import Case, Experiment, Place, Result, short_id
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
    run; none: all. ``resume=False`` runs finished lines again too, from their start. Raises ValueError for a scale or line
    that the experiment does not have, and Stopped after a signal.
    """
    path = results / f"{experiment.name}.jsonl"
    cases = chosen_cases(experiment, scale, seeds, rows)
    known = open_rows(path)
    done: list[Row] = []
    for case in cases:
        row = _finished(known, experiment, scale, case) if resume else None
        label = f"{experiment.name} {scale} · {case.row} · seed {case.seed}"
        if row is None:
            notice(f"{label}: running")
            result = case.run(Place(work=work, cache_dir=cache_dir, command=command, resume=resume))
            row = _row(experiment, scale, case, result, command)
            append_line(path, json.dumps(row, sort_keys=True))
        values = ", ".join(f"{name} {value:.4g}" for name, value in row["columns"].items())
        notice(f"{label}: {values}")
        done.append(row)
    return done


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
        if tuple(row.get(name) for name in ("experiment", "scale", "row", "seed", "config_id")) == wanted:
            return row
    return None


def _row(experiment: Experiment, scale: str, case: Case, result: Result, command: list[str]) -> Row:
    # A misspelt column must fail here, not be missing from a report months later.
    assert set(result.columns) == set(experiment.filled(case)), f"{experiment.name}, {case.row}: {[*result.columns]}"
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
        **provenance(command),
    }

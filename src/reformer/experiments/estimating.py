"""What a training would take here, from one measured pass of it: for scales that nobody runs on this machine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from reformer.experiments.experiment import Case, Experiment, short_id
from reformer.experiments.row_checks import problem
from reformer.experiments.running import chosen_cases, open_rows
from reformer.experiments.step_case import measure_step
from reformer.training.config import TrainConfig
from reformer.training.rows import Row, append_line, provenance
from reformer.training.translation_config import TranslationConfig

FILE = "estimates.jsonl"
_MEASURED = ("seconds_per_pass", "peak_memory_bytes", "date")


def estimate_experiment(
    experiment: Experiment,
    scale: str,
    *,
    results: Path,
    command: list[str],
    rows: tuple[str, ...] = (),
    notice: Callable[[str], None] = print,
) -> list[Row]:
    """One pass (forward, backward, update) of each line's training, on random tokens.

    Rows go to ``estimates.jsonl`` in ``results``. A pass that it holds, of this line or of another that takes the same
    one, on this machine at this commit, is not measured again. Raises ValueError if no line is a training.
    """
    path = results / FILE
    cases = chosen_cases(experiment, scale, range(1), rows)
    known = [row for row in open_rows(path) if problem(row, "estimate") is None]
    done = []
    for case in cases:
        if case.training is None:
            continue
        blank = _row(experiment, scale, case, case.training, command)
        of_this_pass = [row for row in known if _key(row) == _key(blank)]
        of_this_line = [row for row in of_this_pass if _line(row) == _line(blank)]
        if of_this_line:
            done.append(of_this_line[-1])
            continue
        if of_this_pass:
            measured = {name: of_this_pass[-1][name] for name in _MEASURED}
        else:
            notice(f"{experiment.name} {scale} · {case.row}: one pass")
            measured = _measure(case.training)
        row = blank | measured | {"total_seconds": blank["passes"] * measured["seconds_per_pass"]}
        append_line(path, json.dumps(row, sort_keys=True))
        known.append(row)
        done.append(row)
    if not done:
        raise ValueError(f"{experiment.name} at {scale} has no training to estimate; reformer reproduce --list")
    return done


def _measure(config: TrainConfig) -> Row:
    cost = measure_step(
        config.model, seq_len=config.seq_len, batch=_batch(config), optimizer=config.optimizer.name, repeats=0
    )
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return dict(zip(_MEASURED, (cost.seconds, cost.peak_bytes, date), strict=True))


def _batch(config: TrainConfig) -> int:
    if isinstance(config, TranslationConfig):
        return max(1, config.batch_tokens // config.seq_len)
    return config.batch_size


def _row(experiment: Experiment, scale: str, case: Case, config: TrainConfig, command: list[str]) -> Row:
    a_pass = {
        "model": dataclasses.asdict(config.model),
        "seq_len": config.seq_len,
        "batch": _batch(config),
        "optimizer": config.optimizer.name,
    }
    return {
        "estimate": experiment.name,
        "scale": scale,
        "row": case.row,
        "config_id": short_id(case.config),
        "pass_id": short_id(a_pass),
        "passes": config.steps * config.accumulate,
        **provenance(command),
    }


def _line(row: Row) -> tuple[object, ...]:
    return tuple(row[name] for name in ("estimate", "scale", "row", "config_id"))


def _key(row: Row) -> tuple[object, ...]:
    code, hardware = row["code"], row["hardware"]
    return row["pass_id"], code["commit"], (hardware["cpu"], hardware["torch_threads"], tuple(hardware["gpus"]))

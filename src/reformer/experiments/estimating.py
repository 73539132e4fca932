"""What a training would take here, from one measured pass of it: for scales that nobody runs on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from reformer.experiments.experiment import Case, Experiment, short_id
from reformer.experiments.running import chosen_cases, open_rows
from reformer.experiments.step_case import measure_step
from reformer.training.config import TrainConfig
from reformer.training.rows import Row, append_line, provenance
from reformer.training.translation_config import TranslationConfig

FILE = "estimates.jsonl"


def estimate_experiment(
    experiment: Experiment,
    scale: str,
    *,
    results: Path,
    command: list[str],
    rows: tuple[str, ...] = (),
    notice: Callable[[str], None] = print,
) -> list[Row]:
    """One pass (forward, backward, update) of each line's training, on random tokens in a fresh process.

    Rows go to ``estimates.jsonl`` in ``results``; those that it holds for the same training, commit and machine are not
    measured again. Raises ValueError if no line of the experiment is a training.
    """
    path = results / FILE
    cases = chosen_cases(experiment, scale, range(1), rows)
    known = open_rows(path)
    done = []
    for case in cases:
        if case.training is None:
            continue
        blank = _row(experiment, scale, case, command)
        same = [row for row in known if _key(row) == _key(blank)]
        if not same:
            notice(f"{experiment.name} {scale} · {case.row}: one pass")
            same = [blank | _measure(case.training)]
            append_line(path, json.dumps(same[0], sort_keys=True))
        done.append(same[-1])
    if not done:
        raise ValueError(f"{experiment.name} at {scale} has no training to estimate; reformer reproduce --list")
    return done


def _measure(config: TrainConfig) -> Row:
    batch = config.batch_size
    if isinstance(config, TranslationConfig):
        batch = max(1, config.batch_tokens // config.seq_len)
    cost = measure_step(config.model, seq_len=config.seq_len, batch=batch, optimizer=config.optimizer.name, repeats=0)
    passes = config.steps * config.accumulate
    return {
        "passes": passes,
        "seconds_per_pass": cost.seconds,
        "total_seconds": passes * cost.seconds,
        "peak_memory_bytes": cost.peak_bytes,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _row(experiment: Experiment, scale: str, case: Case, command: list[str]) -> Row:
    return {
        "estimate": experiment.name,
        "scale": scale,
        "row": case.row,
        "config_id": short_id(case.config),
        **provenance(command),
    }


def _key(row: Row) -> tuple[object, ...]:
    code, hardware = row["code"], row["hardware"]
    machine = (hardware["cpu"], hardware["torch_threads"], tuple(hardware["gpus"]))
    return tuple(row.get(name) for name in ("estimate", "scale", "row", "config_id")), code["commit"], machine

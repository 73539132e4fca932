"""What a training would take here, from measured passes of it: for scales that nobody runs on this machine."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from reformer.models import ReformerConfig
from reformer.training.environment import chosen_device
from reproduction.benchmarks.steps import measure_step
from reproduction.case import Case
from reproduction.experiments.experiment import Experiment, short_id
from reproduction.experiments.running import chosen_cases
from reproduction.rows import Row, RowFile, kind, problem, provenance, values

FILE = "estimates.jsonl"
_COSTS = ("seconds_per_pass", "peak_memory_bytes")
_MEASURED = (*_COSTS, "date")
_PLACE = ("code.commit", "hardware.cpu", "hardware.torch_threads", "hardware.gpus")
# Tokens from which full attention is measured on shorter sequences.
_LONG = 32_768


def estimate_experiment(
    experiment: Experiment,
    scale: str,
    *,
    results: Path,
    command: list[str],
    rows: tuple[str, ...] = (),
    notice: Callable[[str], None] = print,
) -> list[Row]:
    """What each line's training takes, from passes (forward, backward, update) on random tokens.

    One pass of the whole model is measured; where that is less work, one with a single and one with two layers of each kind of
    its attention, of which the whole is the sum; with full attention over long sequences on a CPU, passes at an eighth and at
    a quarter of the length, continued by what grows with the length and what with its square. Rows go to ``estimates.jsonl``
    in ``results``. A pass that it holds, of whatever line, on this machine at this commit, is not measured again.

    Raises ValueError if no line is a training.
    """
    cases = [case for case in chosen_cases(experiment, scale, range(1), rows) if case.training is not None]
    if not cases:
        raise ValueError(f"{experiment.name} at {scale} has no training to estimate; reformer reproduce --list")
    file = RowFile(results / FILE, provenance(command), notice)
    return [_estimate(experiment, scale, case, file, notice) for case in cases]


def _estimate(experiment: Experiment, scale: str, case: Case, file: RowFile, notice: Callable[[str], None]) -> Row:
    config = case.training
    line = {"estimate": experiment.name, "scale": scale, "row": case.row, "config_id": short_id(case.config)}
    row = line | {"pass_id": short_id(_pass(config)), "passes": config.steps * config.accumulate}
    if (finished := file.finished(line)) is not None:
        return finished
    whole_rows = (each for each in file.rows() if kind(each) == "estimate" and problem(each) is None)
    here = (each for each in whole_rows if values(each, *_PLACE) == values(file.common, *_PLACE))
    known = {each["pass_id"]: each for each in chain.from_iterable(map(_passes, here))}
    parts = _parts(config)
    for each in chain.from_iterable(map(_slices, parts)):
        pass_id = short_id(_pass(each))
        if pass_id in known:
            continue
        name = case.row if each == config else _name(each)
        notice(f"{experiment.name} {scale} · {name}: one pass")
        known[pass_id] = {"pass_id": pass_id} | _measure(each)
        if each != config:
            # A row of its own: a kill may come before the whole is known, minutes or hours later.
            _add(file, row | {"row": name, "config_id": pass_id, "passes": 1} | known[pass_id])
    measured = [[known[short_id(_pass(each))] for each in _slices(part)] for part in parts]
    passes = list(chain.from_iterable(measured))
    whole = _whole(config, list(map(_at_full_length, parts, measured)))
    date = max(each["date"] for each in passes)
    return _add(file, row | {"measured_passes": passes, "date": date} | whole)


def _add(file: RowFile, row: Row) -> Row:
    """Keep ``row``, with what all its passes take."""
    return file.add(row | {"total_seconds": row["passes"] * row["seconds_per_pass"]})


def _parts(config: Any) -> list[Any]:
    """What is measured: the training itself, or with one and with two layers of each kind, if those are fewer layers."""
    if not isinstance(config.model, ReformerConfig):
        return [config]
    kinds = dict.fromkeys(config.model.attention)
    if 3 * len(kinds) >= len(config.model.attention):
        return [config]
    return [
        dataclasses.replace(config, model=dataclasses.replace(config.model, attention=(kind,) * depth))
        for kind in kinds
        for depth in (1, 2)
    ]


def _slices(part: Any) -> list[Any]:
    """What is measured of a part: itself, or two shorter passes where full attention would take a CPU an hour."""
    kinds = part.model.attention if isinstance(part.model, ReformerConfig) else ()
    if "full" not in kinds or part.seq_len < _LONG or chosen_device("auto").type != "cpu":
        return [part]
    return [dataclasses.replace(part, seq_len=part.seq_len // share) for share in (8, 4)]


def _at_full_length(part: Any, measured: Sequence[Row]) -> Row:
    """Seconds (a L + b L²) and peak memory (a + b L) of a part of length L, from those of its slices."""
    if len(measured) == 1:
        return {name: measured[0][name] for name in _COSTS}
    short, long = (each.seq_len for each in _slices(part))
    first, second = measured

    def line(at_short: float, at_long: float) -> float:
        share: float = (part.seq_len - short) / (long - short)
        return at_short + (at_long - at_short) * share

    return {
        "seconds_per_pass": part.seq_len * line(first["seconds_per_pass"] / short, second["seconds_per_pass"] / long),
        "peak_memory_bytes": round(line(first["peak_memory_bytes"], second["peak_memory_bytes"])),
    }


def _whole(config: Any, of_parts: Sequence[Row]) -> Row:
    """Seconds and peak memory of the whole pass, from those of ``_parts``.

    A second layer costs what it adds to one; what is left of the first pass is paid once: in time (embeddings, head) alike for
    every kind, in memory (parameters of those, the working memory of a layer) as much as the kind that needs the most.
    """
    if len(of_parts) == 1:
        return of_parts[0]
    depths = Counter(config.model.attention)
    once, layers = _split([each["seconds_per_pass"] for each in of_parts], depths)
    room, kept = _split([each["peak_memory_bytes"] for each in of_parts], depths)
    return {"seconds_per_pass": sum(once) / len(once) + layers, "peak_memory_bytes": round(max(room) + kept)}


def _split(costs: Sequence[float], depths: Counter[str]) -> tuple[list[float], float]:
    """What each kind costs once, and what all layers add, from the costs of one and of two layers of each kind."""
    ones, twos = costs[::2], costs[1::2]
    added = [max(0.0, two - one) for one, two in zip(ones, twos, strict=True)]
    once = [max(0.0, one - layer) for one, layer in zip(ones, added, strict=True)]
    return once, sum(layer * n for layer, n in zip(added, depths.values(), strict=True))


def _name(part: Any) -> str:
    kinds, depth = dict.fromkeys(part.model.attention), len(part.model.attention)
    return f"{depth} {' and '.join(kinds)} layer{'s' * (depth > 1)}, {part.seq_len:,} tokens"


def _measure(config: Any) -> Row:
    step = measure_step(
        config.model, seq_len=config.seq_len, batch=_batch(config), optimizer=config.optimizer.name, repeats=0
    )
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return dict(zip(_MEASURED, (step["median_s"], step["peak_bytes"], date), strict=True))


def _batch(config: Any) -> int:
    """Sequences a pass."""
    if hasattr(config, "batch_tokens"):
        return max(1, int(config.batch_tokens // config.seq_len))
    return int(config.batch_size)


def _pass(config: Any) -> Row:
    """What the cost of a pass depends on."""
    return {
        "model": dataclasses.asdict(config.model),
        "seq_len": config.seq_len,
        "batch": _batch(config),
        "optimizer": config.optimizer.name,
    }


def _passes(row: Row) -> list[Row]:
    """The passes that a row was made from; rows of before there were parts are one pass."""
    return row.get("measured_passes") or [{name: row[name] for name in ("pass_id", *_MEASURED)}]

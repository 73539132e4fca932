"""Whether a row of results is whole: an editor, a full disk or another program may have left half of one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from reformer.training.rows import Row

Check = Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _holds(*names: str) -> Check:
    return lambda value: isinstance(value, dict) and all(name in value for name in names)


def _is_columns(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_hardware(value: Any) -> bool:
    return _holds("cpu", "torch_threads", "gpus")(value) and isinstance(value["gpus"], list)


def _is_curve(value: Any) -> bool:
    return value is None or (
        isinstance(value, list)
        and all(isinstance(point, list) and len(point) == 2 and all(map(_is_number, point)) for point in value)
    )


_MEASURED_PASS = ("seconds_per_pass", "peak_memory_bytes")


def _is_passes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(
            _holds("pass_id", "date", *_MEASURED_PASS)(each) and all(_is_number(each[name]) for name in _MEASURED_PASS)
            for each in value
        )
    )


_EVERY: dict[str, tuple[str, Check]] = {
    "scale": ("a text", _is_text),
    "row": ("a text", _is_text),
    "config_id": ("a text", _is_text),
    "date": ("a text", _is_text),
    "code": ("an object with commit and dirty", _holds("commit", "dirty")),
    "hardware": ("an object with cpu, torch_threads and a list of gpus", _is_hardware),
}
_OF = {
    "experiment": _EVERY
    | {
        "seed": ("a whole number", lambda value: isinstance(value, int)),
        "columns": ("an object of finite numbers", _is_columns),
        "cost": ("an object", _holds()),
        "protocol": ("a text", _is_text),
        "curve": ("null or a list of pairs of finite numbers", _is_curve),
    },
    "estimate": _EVERY
    | {
        "command": ("a text", _is_text),
        "pass_id": ("a text", _is_text),
        "measured_passes": ("a list of passes with seconds and memory", _is_passes),
        **{
            name: ("a finite number", _is_number)
            for name in ("passes", "seconds_per_pass", "total_seconds", "peak_memory_bytes")
        },
    },
}
KINDS = tuple(_OF)
_OPTIONAL = ("curve", "measured_passes")


def problem(row: Row, kind: str) -> str | None:
    """What is wrong with a row of an "experiment" or an "estimate"; None: nothing."""
    for name, (expected, fits) in _OF[kind].items():
        if name not in row and name not in _OPTIONAL:
            return f"it has no {name}"
        if name in row and not fits(row[name]):
            return f"{name} must be {expected}, got {row[name]!r}"
    return None

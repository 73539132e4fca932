"""The record of a run: strict JSON lines in ``metrics.jsonl``, mirrored to TensorBoard where it is installed."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reformer.tasks.earlier import current_row
from reformer.training.checkpoint import write_durably

METRICS_FILE = "metrics.jsonl"
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class MetricsLog:
    """Appends records to ``directory/metrics.jsonl`` and their numbers to ``directory/tensorboard``.

    With ``resume_step``, records of later steps are dropped first (0 drops all of them); with None the log goes on as
    it is. A last line torn by a kill is dropped either way. ``notice`` is None, or one line saying why there is no
    TensorBoard mirror. Raises ValueError if an earlier record is damaged.
    """

    def __init__(self, directory: Path, resume_step: int | None = None) -> None:
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / METRICS_FILE
        _repair(self.path, resume_step)
        # Line buffering hands every record to the system, so a killed process loses at most half a line.
        self._file = self.path.open("a", buffering=1, encoding="utf-8")
        self._mirror, self.notice = _tensorboard(directory / "tensorboard", resume_step)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; it must have "step" (an integer) and "kind". NaN and infinities are written as strings."""
        if not isinstance(record.get("step"), int) or "kind" not in record:
            raise ValueError(f'expected a record with an integer "step" and a "kind", got {dict(record)}')
        safe = json_safe(record)
        self._file.write(json.dumps(safe, allow_nan=False) + "\n")
        if self._mirror is None:
            return
        for name, value in safe.items():
            value = _NON_FINITE.get(value, value) if isinstance(value, str) else value
            if name == "value" and "metric" in safe:
                name = safe["metric"].replace(" ", "_")
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                self._mirror.add_scalar(f"{safe['kind']}/{name}", value, safe["step"])

    def flush(self) -> None:
        """Return once every record so far is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._mirror is not None:
            self._mirror.flush()

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        if self._file.closed:
            return
        self.flush()
        self._file.close()
        if self._mirror is not None:
            self._mirror.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics file, in order, non-finite numbers as floats again; a torn last line is left out.

    Records written before each had its "metric" and "value" are given them.

    Raises ValueError naming the line if any other is damaged.
    """
    return [
        current_row(
            {name: _NON_FINITE.get(value, value) if isinstance(value, str) else value for name, value in record.items()}
        )
        for record in _records(Path(path))
    ]


def json_safe(value: Any) -> Any:
    """``value`` as strict JSON can hold it: one-element tensors as numbers, NaN and infinities as strings."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_safe(item) for item in value]
    if hasattr(value, "item") and math.prod(getattr(value, "shape", (0,))) == 1:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _records(path: Path) -> list[dict[str, Any]]:
    lines = path.read_bytes().splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_record(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(
                    f"{path}: line {number} is not a record ({error}); remove that line to go on"
                ) from error
    return records


def _record(line: bytes) -> dict[str, Any]:
    record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        raise ValueError('expected an object with an integer "step"')
    return record


def _repair(path: Path, resume_step: int | None) -> None:
    if not path.exists():
        return
    kept = [record for record in _records(path) if resume_step is None or record["step"] <= resume_step]
    data = "".join(json.dumps(record, allow_nan=False) + "\n" for record in kept).encode()
    if data != path.read_bytes():
        write_durably(path, data)


def _tensorboard(directory: Path, resume_step: int | None) -> tuple[Any, str | None]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None, "TensorBoard is not installed, so metrics go to metrics.jsonl alone; pip install tensorboard"
    purge = None if resume_step is None else resume_step + 1
    return SummaryWriter(str(directory), purge_step=purge), None

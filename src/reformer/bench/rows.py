"""Rows of measurements: one JSON object a line, appended as soon as it is there.

A row says what ran ("benchmark", "contender", "direction", the shape, "dtype", "device", "threads"), what came out
("median_s", "q1_s", "q3_s", "min_s", "repeats", "peak_bytes", ..., or "not_run" with the reason), and where it comes from
("date", "code", "software", "hardware", "load_average", "command").
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reformer.bench.worker import is_out_of_memory
from reformer.training.rows import Row, append_line, read_rows
from reformer.training.rows import provenance as common_provenance

# What a row measures. Two rows that agree in these are the same measurement; the later one counts.
SAME = (
    "benchmark",
    "contender",
    "direction",
    "device",
    "threads",
    "dtype",
    "batch",
    "seq_len",
    "n_heads",
    "head_dim",
    "n_hashes",
    "chunk_len",
    "n_buckets",
    "model",
    "layers",
    "reversible",
    "d_model",
    "optimizer",
)


class RowFile:
    """The rows of one run of a benchmark, beside those that its file (None: no file) held before."""

    def __init__(self, path: Path | None, common: Mapping[str, Any]) -> None:
        self._path, self._common = path, dict(common)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._known = read_rows(path) if path is not None and path.exists() else []

    def finished(self, what: Mapping[str, Any]) -> Row | None:
        """The row that measured ``what`` with this code on this machine, if there is one."""
        wanted = _identity({**self._common, **what})
        for row in reversed(self._known):
            if _identity(row) == wanted and ("median_s" in row or is_out_of_memory(row.get("not_run", ""))):
                return row
        return None

    def add(self, what: Mapping[str, Any], measured: Mapping[str, Any]) -> Row:
        """Append a row and return it once the system has it."""
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        date = datetime.now(UTC).isoformat(timespec="seconds")
        row = {**what, **measured, "date": date, "load_average": load, **self._common}
        self._known.append(row)
        if self._path is not None:
            append_line(self._path, json.dumps(row))
        return row

    def history(self, what: Mapping[str, Any]) -> list[tuple[int, float]]:
        """(length, seconds a sequence) of the rows that differ from ``what`` in length and batch alone."""
        ignored = {"seq_len", "batch", "n_buckets"}
        wanted = _identity({**self._common, **what}, ignored)
        times = {row["seq_len"]: row["median_s"] / row["batch"] for row in self._known if _same(row, wanted, ignored)}
        return sorted(times.items())


def latest(rows: Iterable[Row]) -> list[Row]:
    """Each measurement once: of rows that measure the same on the same hardware, the last one, whatever the commit."""
    return list({_identity({**row, "code": {}}): row for row in rows}.values())


def provenance(command: list[str]) -> Row:
    """What ``training.rows.provenance`` tells of a run, and the versions of the peers."""
    return common_provenance(command, packages=("transformers", "reformer-pytorch"))


def _same(row: Row, wanted: tuple[Any, ...], ignored: set[str]) -> bool:
    return "median_s" in row and _identity(row, ignored) == wanted


def _identity(row: Mapping[str, Any], ignored: set[str] = frozenset()) -> tuple[Any, ...]:  # type: ignore[assignment]
    hardware = row.get("hardware", {})
    where = (row.get("code", {}).get("commit"), hardware.get("cpu"), tuple(hardware.get("gpus", ())))
    return tuple(_plain(row.get(name)) for name in SAME if name not in ignored) + where


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def by(rows: Iterable[Row], *names: str) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
    """Rows grouped by the values of ``names``, in the order in which the groups first come."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(_plain(row.get(name)) for name in names), []).append(row)
    yield from groups.items()

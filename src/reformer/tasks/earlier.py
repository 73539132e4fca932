"""Runs written before tasks had configs and units of their own (until November 2026): the one place that knows their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SEQUENCES = ("duplication", "recall")
# Fields that every config had, and what they had to be for tasks in which they meant nothing.
FIXED: dict[str, dict[str, Any]] = {
    "duplication": {"objective": "causal", "data": "synthetic"},
    "recall": {"objective": "causal"},
    "images": {"objective": "causal"},
    "translation": {"objective": "causal", "batch_size": 1},
    "packed-translation": {"objective": "causal", "batch_size": 1},
}


def current_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config, written then or now, under today's names."""
    values = dict(values)
    task = values.setdefault("task", "text")
    for name in FIXED.get(task, {}):
        values.pop(name, None)
    if task in SEQUENCES and "eval_bytes" in values:
        values["eval_sequences"] = values.pop("eval_bytes")
    if task == "images" and "eval_bytes" in values:
        # Bytes of which whole pictures were taken, at least one.
        values["eval_pictures"] = max(1, values.pop("eval_bytes") // values["seq_len"])
    return values


def current_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A record of metrics.jsonl, a row of eval.json or a checkpoint's validation, written then or now, as today's.

    Then "bits_per_byte" was the name of every task's value, of "metric" where that was another than bits per byte.
    """
    row = dict(row)
    if "attention" in row:
        row["variant"] = row.pop("attention")
    if "bits_per_byte" in row:
        row["metric"] = row.pop("metric", "bits per byte")
        row["value"] = row.pop("bits_per_byte")
    if "n_bytes" in row:
        row["n"], row["unit"] = row.pop("n_bytes"), "bytes"
    if "n_pairs" in row:
        row["n"], row["unit"] = row.pop("n_pairs"), "pairs"
    return row

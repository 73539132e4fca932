"""What a row of results is known by: a digest of its training's config, under the names that the first rows had."""

from collections.abc import Mapping
from typing import Any

from reformer.tasks.earlier import FIXED, SEQUENCES


def earlier_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """``RunConfig.as_dict`` under the names of before tasks had configs and units of their own (until November 2026)."""
    values = dict(values)
    task = values["task"]
    if task in SEQUENCES:
        values["eval_bytes"] = values.pop("eval_sequences")
    if task == "images":
        values["eval_bytes"] = values.pop("eval_pictures") * values["seq_len"]
    return values | FIXED.get(task, {})

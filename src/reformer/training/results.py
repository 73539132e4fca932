"""Results measured after training: kept as rows beside the run, and in its card."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reformer.tasks.earlier import current_row
from reformer.tasks.protocol import Evaluated, Measurement
from reformer.training.card import CARD_FILE, measured, read_card, write_card
from reformer.training.checkpoint import write_durably
from reformer.training.environment import code_version

TABLE_FILE = "eval.json"
_SAME = ("split", "variant", "step", "protocol", "metric")


def add_results(
    directory: Path,
    found: Sequence[Evaluated],
    step: int,
    command: list[str],
    *,
    weights: str | None = None,
    notice: Callable[[str], None] = print,
) -> None:
    """Add lines of an evaluation to ``eval.json`` and to the run's card; a line measured again replaces the earlier one.

    ``step`` is the model's; ``weights`` says in words of which checkpoints it is, where that is not the one of ``step``.
    A damaged file is told of and kept beside the new one.
    """
    path = directory / TABLE_FILE
    kept = _read_rows(path, notice)
    stamp = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "commit": code_version()["commit"],
    }
    new = [{**_row(one, step, weights), **stamp} for one in found]
    keys = [[row.get(name) for name in _SAME] for row in new]
    kept = [row for row in kept if [row.get(name) for name in _SAME] not in keys] + new
    write_durably(path, (json.dumps(kept, indent=1) + "\n").encode())
    card = read_card(directory)
    if card is None:
        if (directory / CARD_FILE).exists():
            notice(
                f"{directory / CARD_FILE} is damaged: the results are in {path} alone; training on writes a new card"
            )
        return
    trained = [result for result in card.get("results", []) if "variant" not in current_row(result)]
    card["results"] = trained
    for row in kept:
        card["results"] += measured(Measurement.from_dict(row), row["split"], row.get("step"), row["variant"])
    write_card(directory, card)


def _read_rows(path: Path, notice: Callable[[str], None]) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        rows = None
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return [current_row(row) for row in rows]
    damaged = path.with_name(f"{path.name}.damaged")
    path.replace(damaged)
    notice(f"{path} was damaged: it is now {damaged}, and a new one begins")
    return []


def _row(one: Evaluated, step: int, weights: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"split": one.split, "variant": one.variant}
    if one.is_yardstick:
        return row | one.measurement.as_dict()
    protocol = one.measurement.protocol if weights is None else f"{one.measurement.protocol}; {weights}"
    return row | {"step": step, **one.measurement.as_dict(), "protocol": protocol}

"""Results measured after training: kept as rows beside the run, and in its card."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reformer.training.card import CARD_FILE, read_card, write_card
from reformer.training.checkpoint import write_durably
from reformer.training.environment import code_version

TABLE_FILE = "eval.json"
_SAME = ("split", "attention", "step", "protocol", "metric")


def add_results(
    directory: Path, rows: list[dict[str, Any]], command: list[str], notice: Callable[[str], None] = print
) -> None:
    """Add evaluation rows to ``eval.json`` and to the run's card; a row measured again replaces the earlier one.

    A damaged file is told of and kept beside the new one.
    """
    path = directory / TABLE_FILE
    kept = _read_rows(path, notice)
    stamp = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "commit": code_version()["commit"],
    }
    new = [{**row, **stamp} for row in rows]
    kept = [row for row in kept if all(_key(row) != _key(other) for other in new)] + new
    write_durably(path, (json.dumps(kept, indent=1) + "\n").encode())
    card = read_card(directory)
    if card is None:
        if (directory / CARD_FILE).exists():
            notice(
                f"{directory / CARD_FILE} is damaged: the results are in {path} alone; training on writes a new card"
            )
        return
    trained = [result for result in card.get("results", []) if "attention" not in result]
    card["results"] = trained + [result for row in kept for result in _as_results(row)]
    write_card(directory, card)


def _read_rows(path: Path, notice: Callable[[str], None]) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        rows = None
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return rows
    damaged = path.with_name(f"{path.name}.damaged")
    path.replace(damaged)
    notice(f"{path} was damaged: it is now {damaged}, and a new one begins")
    return []


def metric_of(result: dict[str, Any]) -> str:
    """What the "bits_per_byte" of an evaluation are called: of pictures, bits per dim."""
    return result.get("metric", "bits per byte")


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in _SAME)


def _as_results(row: dict[str, Any]) -> list[dict[str, Any]]:
    common: dict[str, Any] = {name: row[name] for name in ("split", "step", "protocol", "attention") if name in row}
    value = row["value"] if "value" in row else row["bits_per_byte"]
    results = [{"metric": f"{metric_of(row)} ({row['attention']})", "value": value, **common}]
    if "accuracy" in row:
        results.append({"metric": f"accuracy ({row['attention']})", "value": row["accuracy"], **common})
    return results

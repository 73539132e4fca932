"""The run card: everything a stranger needs to repeat a run, as ``card.json`` and as ``card.md`` for reading.

Its sections answer the variables of the reproducibility survey: code, versions, hardware, data and splits, set-up,
cost, result with its protocol, and where the pseudocode is.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reformer.tasks.protocol import Measurement
from reformer.training.checkpoint import write_durably
from reformer.training.metrics import json_safe
from reformer.training.progress import format_bytes, format_duration

CARD_FILE, FINISHED = "card.json", "finished"
_EXPECTED = {
    "code": ("version", "commit", "dirty"),
    "software": ("python", "torch", "numpy", "safetensors", "triton", "cuda", "os"),
    "hardware": ("cpu", "logical_cores", "torch_threads", "memory_bytes", "gpus"),
    "data": ("source", "checksums", "splits"),
    "cost": ("wall_time_seconds", "peak_memory_bytes", "tokens"),
}
_RESULT_COLUMNS = ("metric", "value", "unit", "split", "step", "protocol")
_LABELS = {"cpu": "CPU", "gpus": "GPUs", "os": "Operating system", "cuda": "CUDA", "dirty": "Uncommitted changes"}


def measured(
    found: Measurement, split: str, step: int | None = None, variant: str | None = None
) -> list[dict[str, Any]]:
    """The card's ``results`` of one measurement: its metric, and its accuracy where it has one."""
    values = {found.metric: found.value}
    if "accuracy" in found.extras:
        values["accuracy"] = found.extras["accuracy"]
    about: dict[str, Any] = {"split": split, "step": step, "protocol": found.protocol, "variant": variant}
    about = {name: value for name, value in about.items() if value is not None}
    suffix = "" if variant is None else f" ({variant})"
    return [{"metric": f"{metric}{suffix}", "value": value, **about} for metric, value in values.items()]


def write_card(directory: Path, card: dict[str, Any]) -> None:
    """Write ``card.json`` and, from the same values, ``card.md``; each replaced whole. What JSON lacks becomes text.

    ``card`` has "status", "written_at", "code", "software", "hardware"; "data" with "source", "checksums" and "splits"
    (bytes); "setup" with "command", "config" and "seeds"; "cost" with "wall_time_seconds", "peak_memory_bytes" and
    "tokens"; and "results", each with "metric", "value", "protocol" and, if they apply, "unit", "split" and "step".
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    safe = json_safe(card)
    text = json.dumps(safe, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    write_durably(directory / CARD_FILE, text.encode())
    write_durably(directory / "card.md", render_card(safe).encode())


def read_card(directory: Path) -> dict[str, Any] | None:
    """The card in ``directory``; None where there is none, or what is there is damaged."""
    try:
        card = json.loads((Path(directory) / CARD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return card if isinstance(card, dict) else None


def commits(directory: Path) -> list[str]:
    """The commits that made the steps of the run in ``directory``, oldest first, as its card has them."""
    code = (read_card(directory) or {}).get("code") or {}
    named = [*code.get("earlier_commits", []), code.get("commit")]
    return [commit for commit in dict.fromkeys(named) if commit is not None]


def is_finished(directory: Path) -> bool:
    """Whether the card says that the run is trained to its end."""
    return str((read_card(directory) or {}).get("status")).startswith(FINISHED)


def render_card(card: Mapping[str, Any]) -> str:
    """The card as Markdown. What is absent is said to be "unknown", a result without a value "not run"."""
    card = json_safe(card)
    facts = {name: _bullets(dict.fromkeys(expected) | (card.get(name) or {})) for name, expected in _EXPECTED.items()}
    sections = {
        "Code": facts["code"],
        "Software versions": facts["software"],
        "Hardware": facts["hardware"],
        "Data": facts["data"],
        "Experiment set-up": _setup(card.get("setup") or {}),
        "Cost": facts["cost"],
        "Result": _results(card.get("results") or []),
        "Pseudocode": f"See `{card.get('pseudocode') or 'docs/algorithm.md'}` in the repository.",
    }
    head = f"# Run card\n\nStatus: **{_text(card.get('status'))}**. Written: {_text(card.get('written_at'))}.\n"
    return head + "".join(f"\n## {title}\n\n{body}\n" for title, body in sections.items())


def _bullets(values: Mapping[str, Any], indent: str = "", parent: str = "") -> str:
    lines = []
    for name, value in values.items():
        # Names of files and splits, which the inner levels hold, are shown as they are.
        label = f"**{_label(name)}**" if not indent else f"`{name}`"
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}- {label}:", _bullets(value, indent + "  ", name)]
        else:
            lines.append(f"{indent}- {label}: {_text(value, 'splits' if parent == 'splits' else name)}")
    return "\n".join(lines)


def _setup(setup: Mapping[str, Any]) -> str:
    command, config = setup.get("command"), setup.get("config")
    line = f"Command line:\n\n```sh\n{shlex.join(command)}\n```" if command else "Command line: unknown"
    seeds = _bullets({"seeds": {name: str(seed) for name, seed in (setup.get("seeds") or {}).items()}})
    block = f"Configuration:\n\n```json\n{json.dumps(config, indent=2)}\n```" if config else "Configuration: unknown"
    return f"{line}\n\n{seeds}\n\n{block}"


def _results(results: list[Mapping[str, Any]]) -> str:
    if not results:
        return "not run"
    present = {name for result in results for name in result} | {"metric", "value", "protocol"}
    names = [name for name in dict.fromkeys((*_RESULT_COLUMNS, *sorted(present))) if name in present]
    rows = [[_label(name) for name in names], ["---"] * len(names)]
    for result in results:
        cells = [_text(result.get(name), name, absent="not run" if name == "value" else "unknown") for name in names]
        rows.append([cell.replace("|", "\\|") for cell in cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _label(name: str) -> str:
    words = name.removesuffix("_bytes").removesuffix("_seconds").replace("_", " ")
    return _LABELS.get(name, words[:1].upper() + words[1:])


def _text(value: Any, name: str = "", absent: str = "unknown") -> str:
    """One line for a reader, never empty."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        exact = f"{value:,}" if isinstance(value, int) else f"{value}"
        if name.endswith("_bytes"):
            return f"{format_bytes(value)} ({exact} bytes)"
        if name.endswith("_seconds"):
            return f"{format_duration(value)} ({value:,.1f} s)"
        return f"{exact} bytes" if name == "splits" else exact
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_text(item, key)}" for key, item in value.items()) or absent
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value) or ("none" if name == "gpus" else absent)
    return " ".join(str(value or "").split()) or absent

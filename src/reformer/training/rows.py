"""Rows of measurements in ``results/``: one JSON object a line, appended as soon as it is there."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reformer.training.environment import code_version, environment, package_version

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, or of every .jsonl file in a folder. A last line torn by a kill is left out.

    Raises ValueError for a damaged line elsewhere.
    """
    if path.is_dir():
        return [row for file in sorted(path.glob("*.jsonl")) for row in read_rows(file)]
    lines = path.read_text().split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise ValueError(f"{path}, line {number}: not a row (JSON object); mend or remove it") from None
    return rows


def append_line(path: Path, line: str) -> None:
    """Append ``line`` and return once the disk has it."""
    with path.open("a+b") as file:
        # A line torn by a kill is no measurement: this one takes its place.
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def provenance(command: list[str], packages: Sequence[str] = ()) -> Row:
    """The fields that all rows of a run share: code, software (with the versions of ``packages``), hardware, command."""
    machine = environment()
    for package in packages:
        machine["software"][package] = package_version(package)
    return {"code": code_version(), **machine, "command": shlex.join(command)}

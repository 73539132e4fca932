"""Rows of measurements in ``results/``: one JSON object a line, appended as soon as it is there."""

from __future__ import annotations

import fcntl
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
    lines = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, 1):
        row = _parsed(line)
        if row is not None:
            rows.append(row)
        elif line.strip() and number < len(lines):
            raise ValueError(f"{path}, line {number}: not a row (JSON object); mend or remove it")
    return rows


def append_line(path: Path, line: str) -> None:
    """Append ``line`` and return once the disk has it; other processes may append to the same file."""
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        tail = file.read().rpartition(b"\n")[2]
        if _parsed(tail) is not None:
            # A whole row whose line break an editor or a full disk took.
            file.write(b"\n")
        elif tail:
            # A line torn by a kill is no measurement: this one takes its place.
            file.truncate(file.tell() - len(tail))
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _parsed(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def provenance(command: list[str], packages: Sequence[str] = ()) -> Row:
    """The fields that all rows of a run share: code, software (with the versions of ``packages``), hardware, command."""
    machine = environment()
    for package in packages:
        machine["software"][package] = package_version(package)
    return {"code": code_version(), **machine, "command": shlex.join(command)}

"""Rows of measurements in ``results/``: one JSON object a line, appended as soon as it is there.

A row is of one of three kinds, named by its first field: a "benchmark" (one contender at one shape), an "experiment" (one line
of a table with one seed) or an "estimate" (what a training would take). It says what ran, what came out ("median_s", ..,
"columns", .., or "not_run" with the reason), and where it comes from ("date", "code", "software", "hardware", "command").
"""

import fcntl
import json
import math
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Row = dict[str, Any]

OUT_OF_MEMORY = "out of memory"
_PEERS = ("transformers", "reformer-pytorch")
_SHAPE = ("dtype", "batch", "seq_len", "n_heads", "head_dim", "n_hashes", "chunk_len", "n_buckets")
_MODEL = ("model", "layers", "reversible", "d_model", "optimizer")
_HERE = ("code.commit", "hardware.cpu", "hardware.gpus")
# What makes two rows of a kind the same measurement; the later one counts.
_IDENTITY = {
    "benchmark": ("benchmark", "contender", "direction", "device", "threads", *_SHAPE, *_MODEL, *_HERE),
    "experiment": ("experiment", "scale", "row", "seed", "config_id"),
    "estimate": ("estimate", "scale", "row", "config_id", *_HERE, "hardware.torch_threads"),
}


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


def provenance(command: list[str]) -> Row:
    """The fields that all rows of a run share: code, software (with the versions of the peers), hardware, command."""
    # Here, lest every subject's process imports torch to know what a row is.
    from reformer.training.environment import code_version, environment, package_version

    machine = environment()
    machine["software"] |= {package: package_version(package) for package in _PEERS}
    return {"code": code_version(), **machine, "command": shlex.join(command)}


class RowFile:
    """The rows of one file (None: of this process alone), to which more can be added.

    Raises ValueError, with the reason, where they cannot: hours of measuring must not end at a file that cannot be written.
    """

    def __init__(self, path: Path | None, common: Mapping[str, Any], say: Callable[[str], None] = print) -> None:
        self._path, self.common, self._say = path, dict(common), say
        self._added: list[Row] = []
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.open("ab").close()
            except OSError as error:
                raise ValueError(
                    f"cannot write {path} ({error.strerror}); free that place or choose another folder with --results "
                    "(of a benchmark: another file with --out)"
                ) from error

    def rows(self) -> list[Row]:
        """All of them; read anew each time, for another process may have added some."""
        return self._added if self._path is None else read_rows(self._path)

    def finished(self, what: Mapping[str, Any]) -> Row | None:
        """The newest row that measured ``what``, if there is one. Of a benchmark or estimate: with this code, on this machine."""
        wanted = identity({**self.common, **what})
        found = (row for row in reversed(self.rows()) if kind(row) == kind(what) and identity(row) == wanted)
        return next(filter(_counts, found), None)

    def add(self, row: Mapping[str, Any]) -> Row:
        """Append ``row`` with where it comes from, and return it once the disk has it."""
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        date = datetime.now(UTC).isoformat(timespec="seconds")
        whole = {"date": date, "load_average": load, **self.common, **row}
        line = json.dumps(whole, sort_keys=True, allow_nan=False)
        if self._path is None:
            self._added.append(json.loads(line))
            return whole
        try:
            append_line(self._path, line)
        except OSError as error:
            # Hours of measuring must not end with a disk: what cannot be kept is shown whole.
            self._say(line)
            raise OSError(
                f"cannot append to {self._path} ({error.strerror}); the row stands above: free that place and append it by hand"
            ) from error
        return whole


def kind(row: Mapping[str, Any]) -> str | None:
    """ "benchmark", "experiment" or "estimate"; None for other data that may lie in the same folder."""
    return next((name for name in _IDENTITY if name in row), None)


def identity(row: Mapping[str, Any], but: Iterable[str] = ()) -> tuple[Any, ...]:
    """What a row of a known kind measured: equal for two rows of the same. ``but``: fields that do not matter."""
    return values(row, *(name for name in _IDENTITY[kind(row) or "benchmark"] if name not in but))


def latest(rows: Iterable[Row]) -> list[Row]:
    """Each benchmark's measurement once: of rows that measure the same on the same hardware the last, whatever the commit."""
    return list({identity(row, but=("code.commit",)): row for row in rows if kind(row) == "benchmark"}.values())


def values(row: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    """The values of ``names`` ("field" or "field.of_it") as something that can be compared and hashed."""
    return tuple(_value(row, *name.split(".")) for name in names)


def _value(row: Mapping[str, Any], name: str, *inner: str) -> Any:
    value = row.get(name)
    if inner:
        return _value(value or {}, *inner)
    return tuple(value) if isinstance(value, list) else value


def by(rows: Iterable[Row], *names: str) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
    """Rows grouped by the values of ``names``, in the order in which the groups first come."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(values(row, *names), []).append(row)
    yield from groups.items()


def is_out_of_memory(row: Mapping[str, Any]) -> bool:
    """Whether it was not run for lack of memory: trying again would not help."""
    return str(row.get("not_run", "")).startswith(OUT_OF_MEMORY)


def _counts(row: Row) -> bool:
    return "median_s" in row or is_out_of_memory(row) if kind(row) == "benchmark" else problem(row) is None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _holds(*names: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(name in value for name in names)


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _is_pass(value: Any) -> bool:
    costs = ("seconds_per_pass", "peak_memory_bytes")
    return _holds("pass_id", "date", *costs)(value) and all(_is_number(value[name]) for name in costs)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "a text": lambda value: isinstance(value, str),
    "a whole number": lambda value: isinstance(value, int),
    "a finite number": _is_number,
    "an object": _holds(),
    "an object of finite numbers": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    "an object with commit and dirty": _holds("commit", "dirty"),
    "an object with cpu, torch_threads and a list of gpus": lambda value: (
        _holds("cpu", "torch_threads", "gpus")(value) and isinstance(value["gpus"], list)
    ),
    "null or a list of pairs of finite numbers": lambda value: (
        value is None or (isinstance(value, list) and all(map(_is_point, value)))
    ),
    "a list of passes with seconds and memory": lambda value: (
        isinstance(value, list) and len(value) > 0 and all(map(_is_pass, value))
    ),
}
_EVERY = {
    **dict.fromkeys(("scale", "row", "config_id", "date"), "a text"),
    "code": "an object with commit and dirty",
    "hardware": "an object with cpu, torch_threads and a list of gpus",
}
_FIELDS: dict[str, dict[str, str]] = {
    "experiment": _EVERY
    | {
        "seed": "a whole number",
        "columns": "an object of finite numbers",
        "cost": "an object",
        "protocol": "a text",
        "curve": "null or a list of pairs of finite numbers",
    },
    "estimate": _EVERY
    | {
        "command": "a text",
        "pass_id": "a text",
        "measured_passes": "a list of passes with seconds and memory",
    }
    | dict.fromkeys(("passes", "seconds_per_pass", "total_seconds", "peak_memory_bytes"), "a finite number"),
}
_OPTIONAL = ("curve", "measured_passes")


def problem(row: Row) -> str | None:
    """What is wrong with the row of an experiment or an estimate; None: nothing.

    An editor, a full disk or another program may have left half of one.
    """
    for name, expected in _FIELDS[kind(row) or ""].items():
        if name not in row and name not in _OPTIONAL:
            return f"it has no {name}"
        if name in row and not _CHECKS[expected](row[name]):
            return f"{name} must be {expected}, got {row[name]!r}"
    return None

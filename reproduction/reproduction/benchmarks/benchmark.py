"""What all benchmarks share: options, the machine, and the measuring of groups of cases that take turns."""

import difflib
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from reproduction.case import Case, NotRun, Place, take_turns
from reproduction.rows import Row, RowFile
from reproduction.tables import describe

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure. Options given beside --preset change it."""

    preset: str | None = None
    """A named set of options, or the model: see --help."""
    device: str = "auto"
    threads: int | None = None
    """CPU threads; default: torch's."""
    out: Path | None = None
    """Rows are appended to this file; those that it already holds for this commit and machine are not measured again."""

    def require_positive(self, *names: str) -> None:
        """Raise ValueError unless these options, or all of their values, are at least 1."""
        for name in names:
            value = getattr(self, name)
            least = min(value, default=0) if isinstance(value, tuple) else value
            if least < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {least}")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where a benchmark runs, and the rows from which it goes on."""

    file: RowFile
    device: str
    threads: int


def measure(groups: Generator[list[Case]], file: RowFile, say: Callable[[str], None]) -> list[Row]:
    """The rows of all cases: those that ``file`` holds, and the new ones; the cases of a group take turns."""
    rows = []
    with closing(groups) as each_group:
        for group in each_group:
            found = {case: row for case in group if (row := file.finished(case.config)) is not None}
            for case, measured in take_turns((case for case in group if case not in found), Place()):
                found[case] = file.add({**case.config, **measured})
                say(describe(found[case]))
            rows += [found[case] for case in group]
    return rows


def require_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise ValueError, with the nearest of the ``known`` names of this kind, unless ``name`` is one."""
    if name not in known:
        near = difflib.get_close_matches(name, list(known), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown {kind} {name!r}; {hint}{kind}s: {', '.join(known)}")


def require_dtype(name: str) -> None:
    """Raise ValueError unless ``name`` is a dtype that can be measured."""
    if name not in DTYPES:
        raise ValueError(f"--dtype must be of {', '.join(DTYPES)}, got {name!r}")


def require_installed(package: str) -> None:
    """Raise NotRun if a peer is not there."""
    if find_spec(package) is None:
        raise NotRun(f"{package.replace('_', '-')} is not installed: pip install -e '.[reproduction]'")


def pick_device(name: str) -> str:
    """ "cpu" or "cuda"; "auto" is the latter where there is one. Raises ValueError if it is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"--device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no CUDA device here")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def require_bfloat16(device: str) -> None:
    """Raise NotRun if bfloat16 would be emulated on ``device`` (where nothing says so, it has units for it)."""
    if device == "cuda":
        has_units = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        try:
            words = set(Path("/proc/cpuinfo").read_text().split())
        except OSError:
            return
        has_units = bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
    if not has_units:
        raise NotRun("no bf16 units")


def plain(fields: Mapping[str, Any]) -> Row:
    """``fields`` as they come back from a file of rows."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

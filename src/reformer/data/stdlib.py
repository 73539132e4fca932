"""The corpus that is always there: the source of the running Python's own standard library."""

import hashlib
import os
import platform
import sysconfig
from pathlib import Path
from typing import Any

from reformer.data.corpus import CARD_FORMAT, SPLITS, Corpus
from reformer.data.errors import DataError, reason
from reformer.data.preparing import prepare, split_writers, splits_part

_LEFT_OUT_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
# Written by the build or by the distributor, so different or absent on other machines.
_LEFT_OUT_FILES = {"sitecustomize.py", "usercustomize.py", "_distutils_system_mod.py"}
_LEFT_OUT_PREFIXES = ("_sysconfigdata", "_sysconfig_vars")
_SALT = "reformer stdlib split 1"
STDLIB_RULE = (
    f"whole *.py files in order of sha256({_SALT!r} + path): those of at most 1% of all bytes fill test up to 5% of "
    "them, then validation up to 5%; all others are train. Within a split files are in order of their path"
)
# Three windows of 65,536 bytes. Some installations ship a few files only, or compiled ones.
_MIN_SPLIT_BYTES = 3 * 65_536


def prepare_stdlib(cache_dir: Path, root: Path | None = None) -> Corpus:
    """Corpus of the running Python's standard library without its tests (about 10 MB), or of the one at ``root``.

    Raises DataError where the library's source is not installed as files.
    """
    root = Path(sysconfig.get_paths()["stdlib"]) if root is None else root
    sizes, checksum = _survey(root)
    assigned, total = assign(sizes), sum(sizes.values())
    smallest = min(sum(sizes[path] for path in paths) for paths in assigned.values())
    if smallest < _MIN_SPLIT_BYTES:
        what = f"{root} holds {total:,} bytes of Python source, the smallest split would have {smallest:,}"
        raise DataError(f"{what}, expected at least {_MIN_SPLIT_BYTES:,}; give a file or folder as the source")
    version = platform.python_version()

    def fill(working: Path) -> dict[str, Any]:
        with split_writers(working, "files") as writers:
            for name, paths in assigned.items():
                for path in paths:
                    writers[name].facts["files"] += 1
                    writers[name].write(_read(root / path))
        python = {"version": version, "implementation": platform.python_implementation()}
        part = {"files": len(sizes), "sha256": checksum, "python": python, "rule": STDLIB_RULE}
        return {**splits_part(writers), **part}

    return prepare(cache_dir, "stdlib", f"{version}-{checksum[:16]}", "stdlib", fill, at_least=total)


def assign(sizes: dict[str, int]) -> dict[str, list[str]]:
    """Paths of each split, given the bytes of each path: a hash orders them, sizes bound the splits (5% to 6%)."""
    total = sum(sizes.values())
    waiting = sorted(sizes, key=lambda path: hashlib.sha256((_SALT + path).encode()).digest())
    chosen: dict[str, list[str]] = {name: [] for name in SPLITS}
    filled = dict.fromkeys(("test", "validation"), 0)
    for path in waiting:
        open_splits = [name for name, size in filled.items() if size * 20 < total]
        # One big file (pydoc_data/topics.py has 7% of all) would make a split of its own.
        small = sizes[path] * 100 <= total
        name = open_splits[0] if open_splits and small else "train"
        chosen[name].append(path)
        if name in filled:
            filled[name] += sizes[path]
    return {name: sorted(paths) for name, paths in chosen.items()}


def _survey(root: Path) -> tuple[dict[str, int], str]:
    """Bytes of each file by relative path, and one checksum over all paths and contents."""
    sizes = {}
    digest = hashlib.sha256(f"format {CARD_FORMAT}".encode())
    for path in _sources(root):
        content = _read(root / path)
        sizes[path] = len(content)
        digest.update(f"\0{path}\0{len(content)}\0".encode() + content)
    return sizes, digest.hexdigest()


def _sources(root: Path) -> list[str]:
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [n for n in subfolders if n not in _LEFT_OUT_FOLDERS and not n.startswith((".", "config-"))]
        here = Path(folder).relative_to(root)
        kept = [n for n in names if n not in _LEFT_OUT_FILES and not n.startswith(_LEFT_OUT_PREFIXES)]
        found += [(here / name).as_posix() for name in kept if name.endswith(".py") and name.isascii()]
    return sorted(found)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {reason(error)}; give a file or folder as the source") from error

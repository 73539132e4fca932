"""Crash-safe checkpoints: a directory of safetensors files and one JSON file, verified to the last byte when read.

``checkpoints/step-00000200/`` holds ``<group>.safetensors`` for each group of tensors, and ``state.json``: the caller's
state, the step, and the size and SHA-256 of every file and of itself. Nothing is unpickled. One process writes.
"""

import contextlib
import errno
import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from reformer.data.corpus import sha256_of
from reformer.data.preparing import DISK_FULL, sync

STATE_FILE = "state.json"
_FORMAT = 1
_DIRECTORY = re.compile(r"step-(\d{8,})(\.old)?")
_GROUP = re.compile(r"[A-Za-z0-9_-]+")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, or that must not be trusted; the message is one line."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: ``tensors[group][name]`` on the CPU, and ``state`` as JSON gives it back."""

    path: Path
    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save_checkpoint(
    root: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    keep_last: int,
    protect: Collection[int] = (),
) -> Path:
    """Write ``root/step-<step>`` so that a kill at any moment leaves the newest finished checkpoint readable.

    Afterwards all but the newest ``keep_last`` are removed, never this one nor a step in ``protect``. JSON turns
    tuples in ``state`` into lists and keys into strings. Raises CheckpointError, with earlier checkpoints intact.
    """
    if step < 0 or keep_last < 1:
        raise ValueError(f"expected step >= 0 and keep_last >= 1, got step {step} and keep_last {keep_last}")
    root = Path(root)
    plain = _plain_json(state)
    final, temporary = root / f"step-{step:08d}", root / f".tmp-step-{step:08d}-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _tidy(root)
        temporary.mkdir()
        _write_files(temporary, step, tensors, plain)
        _put_in_place(temporary, final)
    except (OSError, SafetensorError, ValueError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(_why_not_written(error, root, step, tensors)) from error
    _prune(root, {step, *protect}, keep_last)
    return final


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one checkpoint. Raises CheckpointError naming the file that is missing, cut or changed."""
    path = Path(path)
    try:
        document = _read_state(path)
        step, files = document["step"], document["files"]
        name = _DIRECTORY.fullmatch(path.name)
        if name and int(name[1]) != step:
            raise CheckpointError(f"{path}: the directory says step {int(name[1])}, its {STATE_FILE} says step {step}")
        for file, expected in files.items():
            _verify(path / file, expected)
        tensors = {file.removesuffix(".safetensors"): load_file(path / file) for file in files}
    except (OSError, SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint: {' '.join(str(error).split())}") from error
    return Checkpoint(path, step, tensors, document["state"])


def list_checkpoints(root: Path) -> list[Path]:
    """The checkpoints under ``root``, oldest step first; unverified."""
    root = Path(root)
    # A kill while a step is being replaced can leave only the old copy of it: then that one counts.
    found: dict[int, Path] = {}
    for path in sorted(root.iterdir(), reverse=True) if root.is_dir() else []:
        if (match := _DIRECTORY.fullmatch(path.name)) and path.is_dir():
            found[int(match[1])] = path
    return [found[step] for step in sorted(found)]


def latest_checkpoint(root: Path, notice: Callable[[str], None] = lambda line: None) -> Checkpoint | None:
    """The newest checkpoint that verifies, or None; each newer one that does not is told of in one line."""
    for path in reversed(list_checkpoints(root)):
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            notice(f"checkpoint {path.name} is refused: {error}; falling back to the one before it")
    return None


def average_checkpoints(root: Path, n: int) -> tuple[dict[str, Tensor], list[int]]:
    """(the mean of the models of the newest ``n`` checkpoints under ``root``, their steps).

    Sums are float64, and each tensor of the mean has the dtype it had; those that are no floating-point numbers are the
    newest's. Raises ValueError for fewer than ``n`` checkpoints, CheckpointError for a damaged one.
    """
    paths = list_checkpoints(root)
    if n < 1 or len(paths) < n:
        raise ValueError(
            f"{root} holds {len(paths)} checkpoints, so between 1 and {len(paths)} can be averaged, not {n}; "
            "train with a larger keep_last"
        )
    newest = read_checkpoint(paths[-1])
    model, steps = newest.tensors["model"], [newest.step]
    sums = {name: tensor.double() for name, tensor in model.items() if tensor.is_floating_point()}
    for path in reversed(paths[-n:-1]):
        # One at a time: a checkpoint may be large.
        older = read_checkpoint(path)
        if older.tensors["model"].keys() != model.keys():
            raise CheckpointError(f"{path}: it holds other tensors than {paths[-1]}")
        sums = {name: total + older.tensors["model"][name].double() for name, total in sums.items()}
        steps.append(older.step)
    return model | {name: (total / n).to(model[name].dtype) for name, total in sums.items()}, sorted(steps)


def write_durably(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``: written beside it, fsynced, renamed. A kill leaves the old file or the new one."""
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        _write_synced(temporary, data)
        os.rename(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def rng_state() -> dict[str, Tensor]:
    """The state of every global generator: Python's, NumPy's legacy one, torch's on the CPU and on each CUDA device."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - it is this one we must save
    if kind != "MT19937":
        raise CheckpointError(f"NumPy's global generator is {kind}; only the default MT19937 can be checkpointed")
    state = {
        "python": torch.tensor([version, *words]),
        "python_gauss": _bits([] if gauss is None else [gauss]),
        "numpy": torch.tensor([position, has_gauss, *np.asarray(keys).tolist()]),
        "numpy_gauss": _bits([float(cached)]),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state |= {f"cuda.{index}": value for index, value in enumerate(torch.cuda.get_rng_state_all())}
    return state


def restore_rng_state(state: Mapping[str, Tensor]) -> None:
    """Continue every generator of `rng_state`. States of CUDA devices that this machine lacks are left aside."""
    missing = {"python", "python_gauss", "numpy", "numpy_gauss", "torch"} - state.keys()
    if missing:
        raise CheckpointError(f"random state lacks {sorted(missing)}; it holds {sorted(state)}")
    version, *words = state["python"].tolist()
    gauss = state["python_gauss"].view(torch.float64).tolist()
    random.setstate((version, tuple(words), gauss[0] if gauss else None))
    position, has_gauss, *keys = state["numpy"].tolist()
    cached = state["numpy_gauss"].view(torch.float64).item()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda.{index}" in state:
            torch.cuda.set_rng_state(state[f"cuda.{index}"], index)


def _bits(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(torch.int64)


def _plain_json(state: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(state)))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the state must be JSON values (tensors go in groups): {error}") from error
    return plain


def _digest(document: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in document.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _write_files(
    directory: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any]
) -> None:
    files = {}
    for group, named in tensors.items():
        if not _GROUP.fullmatch(group):
            raise ValueError(f"expected a group name of letters, digits, - and _, got {group!r}")
        path = directory / f"{group}.safetensors"
        save_file(_separate(named), path)
        sync(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    document: dict[str, Any] = {"format": _FORMAT, "step": step, "files": files, "state": state}
    document["sha256"] = _digest(document)
    _write_synced(directory / STATE_FILE, (json.dumps(document, indent=1) + "\n").encode())
    for file in files:
        # safetensors makes its files readable by their owner alone; give them the mode the user's umask asks for.
        shutil.copymode(directory / STATE_FILE, directory / file)
    sync(directory)


def _separate(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors of which no two share memory, as safetensors demands; copies only where needed."""
    seen: set[tuple[torch.device, int]] = set()
    result = {}
    for name, tensor in named.items():
        tensor = tensor.detach().contiguous()
        memory = (tensor.device, tensor.untyped_storage().data_ptr())
        result[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return result


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _put_in_place(temporary: Path, final: Path) -> None:
    old = final.with_name(final.name + ".old")
    if final.exists():
        # rename cannot replace a full directory, so step aside first; list_checkpoints finds the .old one meanwhile.
        os.rename(final, old)
    os.rename(temporary, final)
    sync(final.parent)
    if old.exists():
        _discard(old)


def _discard(path: Path) -> None:
    """Remove a checkpoint; renamed first, so that a kill half-way leaves no half checkpoint under a real name."""
    doomed = path.with_name(f".tmp-{path.name}-removed-{os.getpid()}")
    with contextlib.suppress(OSError):
        os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _tidy(root: Path) -> None:
    """Clear what a killed process left: half-written directories go, a step it had moved aside comes back."""
    for path in root.glob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True)
    for old in root.glob("step-*.old"):
        final = old.with_suffix("")
        if final.exists():
            _discard(old)
        else:
            os.rename(old, final)


def _prune(root: Path, keep: Collection[int], keep_last: int) -> None:
    for path in list_checkpoints(root)[:-keep_last]:
        match = _DIRECTORY.fullmatch(path.name)
        if match and int(match[1]) not in keep:
            _discard(path)


def _why_not_written(error: Exception, root: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]]) -> str:
    # safetensors reports the system's error only in its text.
    told = re.search(r"os error (\d+)", str(error))
    code = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    text = f"checkpoint of step {step} was not written: {' '.join(str(error).split())}"
    if code not in (*DISK_FULL, errno.EFBIG):
        return text
    needed = sum(tensor.nbytes for named in tensors.values() for tensor in named.values())
    free = shutil.disk_usage(root).free
    return f"{text}: {root} needs {needed:,} bytes and has {free:,} free; earlier checkpoints are intact"


def _read_state(path: Path) -> dict[str, Any]:
    file = path / STATE_FILE
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: damaged: not JSON ({error})") from error
    if not isinstance(document, dict) or document.get("sha256") != _digest(document):
        raise CheckpointError(f"{file}: damaged: its content does not match its SHA-256")
    if document.get("format") != _FORMAT:
        raise CheckpointError(f"{file}: expected format {_FORMAT}, got {document.get('format')}; use a newer version")
    for name in document["files"]:
        # The digest guards against accident only: never follow a name out of the directory.
        if not _GROUP.fullmatch(name.removesuffix(".safetensors")) or not name.endswith(".safetensors"):
            raise CheckpointError(f"{file}: expected file names like model.safetensors, got {name!r}")
    return document


def _verify(file: Path, expected: Mapping[str, Any]) -> None:
    if not file.is_file():
        raise CheckpointError(f"{file}: missing")
    size = file.stat().st_size
    if size != expected["bytes"]:
        raise CheckpointError(f"{file}: expected {expected['bytes']:,} bytes, got {size:,}: truncated or overwritten")
    if sha256_of(file) != expected["sha256"]:
        raise CheckpointError(f"{file}: damaged: its SHA-256 does not match")

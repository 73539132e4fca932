"""What a run ran on: the machine, the versions, the code, and the memory it took."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import safetensors
import torch

import reformer

_GIT_SECONDS = 5


def environment() -> dict[str, dict[str, Any]]:
    """The "software" (exact versions) and "hardware" of this process; None where it cannot be told."""
    return {
        "software": {
            "python": f"{platform.python_version()} ({platform.python_implementation()})",
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "safetensors": safetensors.__version__,
            "triton": package_version("triton"),
            "cuda": torch.version.cuda or "none (torch built without it)",
            "os": platform.platform(),
        },
        "hardware": {
            "cpu": _cpu_model(),
            "logical_cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "memory_bytes": _memory_bytes(),
            "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        },
    }


def code_version() -> dict[str, Any]:
    """This package's "version", its git "commit" and whether that is "dirty"; the last two None outside its checkout.

    Dirty: a tracked file differs from the commit, or the package's folder holds a file that git neither tracks nor
    ignores. Never fails.
    """
    return {"version": reformer.__version__, **_git_state(Path(reformer.__file__).parent)}


def package_version(package: str) -> str:
    """The installed version of ``package``, or "not installed"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def chosen_device(name: str) -> torch.device:
    """The device called ``name``; "auto" is cuda where there is one. Raises ValueError for one that torch does not have."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}); use auto or cpu"
        ) from None
    return device


def peak_memory_bytes(device: torch.device | str) -> int:
    """Most memory held since the last `reset_peak_memory`: tensors on a CUDA device; the whole process on the CPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _linux_peak() or _getrusage_peak()


def reset_peak_memory(device: torch.device | str) -> None:
    """Start `peak_memory_bytes` afresh. Where the system cannot (macOS), the peak stays that of the whole process."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _cpu_model() -> str | None:
    try:
        fields = [line.partition(":")[::2] for line in Path("/proc/cpuinfo").read_text().splitlines()]
    except OSError:
        fields = []
    # Of the first core. A virtual machine's name may be that of a whole brand, whose generations differ twofold in speed.
    first = {name.strip(): value.strip() for name, value in reversed(fields)}
    if (model := first.get("model name")) is not None:
        known = [f"{name} {first[name]}" for name in ("cpu family", "model", "stepping") if name in first]
        return f"{model} ({', '.join(known)})" if known else model
    return _ask("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or platform.machine() or None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _linux_peak() -> int | None:
    try:
        found = re.search(r"^VmHWM:\s*(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _getrusage_peak() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _git_state(folder: Path) -> dict[str, Any]:
    unknown = {"commit": None, "dirty": None}
    # A virtual environment may lie inside some other project's checkout: only one that tracks our file is ours.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return unknown
    head = _git(folder, "rev-parse", "HEAD", "--show-prefix")
    if head is None:
        return unknown
    commit, prefix = [*head.splitlines(), ""][:2]
    # Rows of results, and the report of them, are made by the code and are no part of it: a second row is not measured on
    # changed code.
    made = [":(top,exclude)results/*.jsonl", ":(top,exclude)docs/results*"]
    status = _git(folder, "status", "--porcelain", "--untracked-files=normal", "--", ":(top)", *made)
    lines = () if status is None else status.splitlines()
    dirty = any(not line.startswith("??") or line[3:].strip('"').startswith(prefix) for line in lines)
    return {"commit": commit, "dirty": None if status is None else dirty}


def _git(folder: Path, *arguments: str) -> str | None:
    return _ask("git", "--no-optional-locks", "-C", str(folder), *arguments)


def _ask(*command: str) -> str | None:
    """What ``command`` prints, or None if it fails, is missing or takes long."""
    # Inside a git hook GIT_DIR and its like name another repository.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_GIT_SECONDS, check=True, env=variables
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip("\n")

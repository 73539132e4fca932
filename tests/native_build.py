"""Builds the C++ kernels as the tests want them: without the optimiser, for one set of registers, threads of their own."""

import platform
import shutil
import subprocess
from pathlib import Path

_FLAGS = ("-std=c++17", "-O1", "-ffp-contract=fast", "-fno-math-errno", "-fvisibility=hidden", "-Wno-psabi", "-fPIC")


def compiler() -> str | None:
    """The C++ compiler, if there is one."""
    return shutil.which("c++")


def build(csrc: Path, library: Path, *, lanes: int) -> None:
    """Compile the kernels in ``csrc`` for registers of ``lanes`` numbers; wider ones than there are become several."""
    command = compiler()
    assert command is not None
    processor = ("-mavx2", "-mfma") if platform.machine() in ("x86_64", "AMD64") else ()
    kernels = ("-DREFORMER_ISA=generic", f"-DREFORMER_LANES={lanes}", *processor)
    sources = sorted(csrc.glob("*.cpp"))
    subprocess.run([command, *_FLAGS, *kernels, "-shared", "-pthread", *sources, "-o", library], check=True)

import ctypes
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from native_build import build, compiler
from reformer.ops.attention.native import library


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from a second thread, and wait long for it on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def triton_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Triton kernels, on a GPU or in Triton's interpreter, writing into memory that held NaN."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    if not torch.cuda.is_available():
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        _interpret_faster(monkeypatch)
    for name in ("empty", "empty_like"):
        monkeypatch.setattr(torch, name, _poisoned(getattr(torch, name)))


def _poisoned(allocate: Any) -> Any:
    def allocate_poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
        x = allocate(*args, **kwargs)
        return x.fill_(float("nan") if x.is_floating_point() else 77)

    return allocate_poisoned


def _interpret_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    # The interpreter prepares Triton's modules anew for every call of a helper function, around what it prepared before.
    # A launch has prepared triton.language already; the functions of Triton's own library need theirs once.
    import triton.language as tl
    from triton.runtime import interpreter

    prepared: set[int] = set()

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        names = self.fn.__globals__
        if id(names) not in prepared and any(value is tl.core for value in names.values()):
            interpreter._patch_lang(self.fn)
            prepared.add(id(names))
        return self.rewrite()(*args, **kwargs)

    monkeypatch.setattr(interpreter.InterpretedFunction, "__call__", call)


# Registers of 16 numbers are not everywhere; the compiler makes the same source into pairs of smaller ones.
_WIDEST = "16 lanes"


@pytest.fixture(params=[*library.instruction_sets(), _WIDEST])
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each set of instructions that the C++ kernels have and this processor runs; the test's calls use it."""
    if request.param == _WIDEST:
        wide = request.getfixturevalue("library_of_16_lanes")
        monkeypatch.setattr(library, "load", lambda: wide)
    else:
        monkeypatch.setattr(library, "chosen_instruction_set", lambda: library.instruction_sets()[request.param])
    return request.param


@pytest.fixture(scope="session")
def library_of_16_lanes(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels as they are for AVX-512, built for this processor."""
    csrc = Path(__file__).parents[2] / "csrc"
    if "avx512" in library.instruction_sets() or compiler() is None or not csrc.exists():
        pytest.skip("runs on this processor anyway, or there is no compiler")
    path = tmp_path_factory.mktemp("kernels") / "kernels.so"
    build(csrc, path, lanes=16)
    return library.open_library(path)

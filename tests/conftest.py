"""One thread per test process: the tensors are small, and `make test` runs one process per core."""

import importlib.util
import os

import pytest
import torch


def _import_triton_for_its_interpreter() -> None:
    # Without a GPU the Triton kernels are tested in Triton's interpreter, and whether Triton's own functions (tl.sum, ..)
    # are interpreted is decided when it is first imported: here, before torch.compile or anybody else does. The switch is
    # turned back at once, so that "auto" never means interpreted kernels; the tests of the kernels turn it on again.
    if importlib.util.find_spec("triton") is None or torch.cuda.is_available():
        return
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    importlib.import_module("triton")
    if before is None:
        del os.environ["TRITON_INTERPRET"]


_import_triton_for_its_interpreter()


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)

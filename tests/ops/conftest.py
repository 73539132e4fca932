from collections.abc import Iterator

import pytest
import torch

from reformer.ops.native import library


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from a second thread, and wait long for it on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=library.instruction_sets() or ["none"])
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each set of instructions that the C++ kernels have and this processor runs; the test's calls use it."""
    monkeypatch.setattr(library, "chosen_instruction_set", lambda: library.instruction_sets()[request.param])
    return request.param

"""One thread per test process: the tensors are small, and `make test` runs one process per core."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)

"""What several tests of the numerical core share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from reformer.ops.attention import native
from reformer.testing.error_budget import Results

# The implementations and the precision that their exact tests run in: the widest they take.
IMPLEMENTATIONS = {"reference": torch.float64, "eager": torch.float64}
if native.missing() is None:
    IMPLEMENTATIONS["native"] = torch.float32
IMPLS = tuple(IMPLEMENTATIONS)
# Those that are compared with the definition, and every precision they take.
FAST = tuple(name for name in IMPLS if name != "reference")
LOW_PRECISION = [(name, dtype) for name in FAST for dtype in (torch.float32, torch.bfloat16)]
LOW_PRECISION.append(("eager", torch.float16))

needs_native = pytest.mark.skipif("native" not in IMPLEMENTATIONS, reason=str(native.missing()))

# Sums of n terms in one order and in another are some √n roundings apart; in these tests n is at most a few hundred, and
# an average of values about 1 goes through two such sums.
_ROUNDINGS = 64

# The C++ kernels share out their work themselves; torch's do it for eager.
_THREADS = {"eager": (1, 1, 2), "native": (1, 1, 2, 3, 5)}


@contextmanager
def refuses(error: type[Exception], *facts: str) -> Iterator[None]:
    """The block raises exactly this error, in one line that holds each of the facts."""
    with pytest.raises(error) as caught:
        yield
    assert caught.type is error
    message = str(caught.value)
    assert "\n" not in message
    for fact in facts:
        assert fact in message, f"{fact!r} is not in: {message}"


def assert_same(found: Tensor, expected: Tensor, *, rtol: float = 1e-12, atol: float = 1e-13) -> None:
    """Equal to rounding: within ``rtol`` and ``atol`` in float64, within 64 roundings of max(1, |x|) below it."""
    dtype = min((found.dtype, expected.dtype), key=lambda d: d.itemsize)
    if dtype != torch.float64:
        rtol = atol = _ROUNDINGS * torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected.double(), rtol=rtol, atol=atol)


def in_dtype_of(impl: str, *tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors in the precision that the exact tests of ``impl`` run in."""
    return [None if x is None else x.to(IMPLEMENTATIONS[impl]) for x in tensors]


def assert_same_bytes(impl: str, function: Callable[[], Results]) -> None:
    """What ``function``, which uses ``impl``, returns is the same twice and with any number of threads, to the last bit."""
    threads = torch.get_num_threads()
    results = []
    try:
        for n in _THREADS[impl]:
            torch.set_num_threads(n)
            results.append(function())
    finally:
        torch.set_num_threads(threads)
    for name, value in results[0].items():
        assert all(torch.equal(other[name], value) for other in results[1:]), name


def fills(dtype: torch.dtype) -> tuple[float, ...]:
    """What padding may hold: any finite numbers, also those whose squares overflow.

    Not NaN or infinity: 0 · NaN is NaN, in the definition and in any product that holds a masked pair.
    """
    return 0.0, 3e4, -1e18, 2.0 * torch.finfo(dtype).max ** 0.5

"""How wrong a low-precision result may be: about as wrong as the plain definition computed in that precision.

The tolerance of a test is thus measured, not chosen: error(implementation, dtype) <= 2 · error(reference, dtype), both
against the reference in float64 on the same numbers, plus one rounding of the largest value.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Results = dict[str, Tensor]

# Root mean square and largest error may be this much worse than the reference's; the largest of a few is noisy.
_RMS_FACTOR, _LARGEST_FACTOR = 2.0, 3.0


def outputs_and_gradients(
    function: Callable[..., Tensor | Sequence[Tensor]], *inputs: Tensor, seed: int = 0
) -> Results:
    """Outputs of ``function(*inputs)`` and the gradients of the inputs, under random gradients of every output.

    Those gradients are the same numbers in every dtype. Keys: "out0", "out1", .., "grad0", "grad1", ...
    """
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    found = function(*leaves)
    outputs = (found,) if isinstance(found, Tensor) else tuple(found)
    generator = torch.Generator().manual_seed(seed)
    cotangents = [
        torch.randn(y.shape, generator=generator, dtype=torch.float32, device="cpu").bfloat16().to(y) for y in outputs
    ]
    gradients = torch.autograd.grad(outputs, leaves, cotangents)
    return {f"out{n}": y.detach() for n, y in enumerate(outputs)} | {f"grad{n}": g for n, g in enumerate(gradients)}


def assert_within_budget(name: str, got: Tensor, low: Tensor, exact: Tensor, *, roundings: float = 1.0) -> None:
    """Fail unless ``got`` is about as near to ``exact`` (float64) as ``low``, the reference in the dtype of ``got``.

    On top of that ``roundings`` of the largest value are allowed. Infinities must be equal, and nothing may be NaN.
    """
    assert got.shape == exact.shape, f"{name}: shape {list(got.shape)}, expected {list(exact.shape)}"
    assert exact.dtype == torch.float64, f"{name}: the exact values must be float64, got {exact.dtype}"
    finite = exact.isfinite()
    assert torch.equal(got.isfinite(), finite), f"{name}: not finite where it should be, or the other way round"
    assert torch.equal(got.double()[~finite], exact[~finite]), f"{name}: infinities differ"
    if not finite.any():
        return
    error, allowed = (x.double()[finite] - exact[finite] for x in (got, low))
    floor = roundings * torch.finfo(low.dtype).eps * _largest(exact[finite])
    for what, factor, measure in (("rms", _RMS_FACTOR, _rms), ("largest", _LARGEST_FACTOR, _largest)):
        budget = factor * measure(allowed) + floor
        assert measure(error) <= budget, (
            f"{name}: {what} error {measure(error):.3e} is beyond the budget {budget:.3e} "
            f"({factor} × the reference's {measure(allowed):.3e} in {low.dtype}, plus {floor:.1e})"
        )


def assert_close_to_float64(
    implementation: Callable[..., Tensor | Sequence[Tensor]],
    reference: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Sequence[Tensor],
    dtype: torch.dtype,
    *,
    lse: Tensor | None = None,
    seed: int = 0,
) -> None:
    """Outputs and gradients of ``implementation`` in ``dtype`` against ``reference`` in float64.

    In float64 they must agree to rounding; in a lower precision within the budget of the reference in that precision.
    ``lse``: the log-sum-exps of the logits. A backward pass that makes the weights again from saved ones has their
    rounding, ε·|lse|, in every weight; the reference, which keeps the weights, has not.
    """
    exact = outputs_and_gradients(reference, *(x.double() for x in inputs), seed=seed)
    got = outputs_and_gradients(implementation, *(x.to(dtype) for x in inputs), seed=seed)
    if dtype == torch.float64:
        for name, value in exact.items():
            assert torch.allclose(got[name], value, rtol=1e-10, atol=1e-11), (
                f"{name}: largest difference {_largest((got[name] - value).nan_to_num()):.3e} in float64"
            )
        return
    low = outputs_and_gradients(reference, *(x.to(dtype) for x in inputs), seed=seed)
    recomputed = 1.0 if lse is None else 1.0 + _largest(lse[lse.isfinite()])
    for name, value in exact.items():
        assert got[name].dtype == low[name].dtype, f"{name}: {got[name].dtype}, expected {low[name].dtype}"
        roundings = recomputed if name.startswith("grad") else 1.0
        assert_within_budget(name, got[name], low[name], value, roundings=roundings)


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def _largest(x: Tensor) -> float:
    return float(x.abs().amax()) if x.numel() else 0.0

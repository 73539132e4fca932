"""The position-wise feed-forward layer, chunked over the sequence."""

from typing import Any

import torch
from torch import Tensor, nn

from reformer.layers.passes import DecodingStep, ParallelPass, resolve_seed
from reformer.layers.replay import HeldTensors
from reformer.ops import ACTIVATIONS, activate, derive_seed, dropout, in_chunks
from reformer.ops.checks import require_at_least, require_choice

# The parameters of the layer before it was made of two Linears, in files written then.
_EARLIER_NAMES = {"w_in": "w_in.weight", "b_in": "w_in.bias", "w_out": "w_out.weight", "b_out": "w_out.bias"}


class FeedForward(nn.Module):
    """x [B, L, d_model] → activation → [B, L, d_model] (paper, section 3 "Chunking"): relu, gelu, gelu_tanh or swiglu.

    Two Linears, called slice by slice: ``w_in`` (for "swiglu" with 2·d_ff outputs, gate first) and ``w_out``.
    ``chunk_len`` positions at a time (None: the hidden layer is kept for the backward pass), which changes memory, not the
    result. ``dropout`` is that of the hidden units. Raises ValueError for an unknown activation.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        activation: str = "relu",
        chunk_len: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_choice("activation", activation, ACTIVATIONS)
        if chunk_len is not None:
            require_at_least("chunk_len", chunk_len, 1)
        self.activation, self.chunk_len, self.dropout = activation, chunk_len, dropout
        hidden = 2 * d_ff if activation == "swiglu" else d_ff
        # Drawn once, below: a seed gives the weights that it always gave.
        self.w_in = nn.utils.skip_init(nn.Linear, d_model, hidden, device=torch.get_default_device())
        self.w_out = nn.utils.skip_init(nn.Linear, d_ff, d_model, device=torch.get_default_device())
        self.reset_parameters()
        self.register_load_state_dict_pre_hook(_rename_earlier)  # type: ignore[no-untyped-call]

    def reset_parameters(self) -> None:
        """Xavier weights, zero biases."""
        for linear in (self.w_in, self.w_out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, x: Tensor, how: ParallelPass | DecodingStep | None = None, *, seed: Tensor | None = None
    ) -> Tensor:
        """The layer's output [B, L, d_model]; by itself (``how`` None), ``seed`` as in ``SelfAttention.forward``."""
        return (ParallelPass(seed=resolve_seed(seed, self.training)) if how is None else how).through(self, x)

    def run(self, x: Tensor, parallel: ParallelPass) -> Tensor:
        """See ``Branch.run``."""
        drop = self.dropout if self.training else 0.0
        seed = derive_seed(parallel.seed, 0) if drop > 0.0 else None

        def of_slice(part: Tensor, first_position: int) -> Tensor:
            active = activate(self.w_in(part), self.activation)
            out: Tensor = self.w_out(dropout(active, drop, seed, first_position=first_position))
            return out

        return in_chunks(of_slice, x, self.chunk_len, again=HeldTensors(self).in_place)

    def step(self, x: Tensor, decoding: DecodingStep) -> Tensor:
        """See ``Branch.step``."""
        if x.shape[1] > 1:
            return in_chunks(lambda part, _: self._at_once(part), x, self.chunk_len)
        return self._at_once(x)

    def _at_once(self, x: Tensor) -> Tensor:
        out: Tensor = self.w_out(activate(self.w_in(x), self.activation))
        return out


def _rename_earlier(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for earlier, name in _EARLIER_NAMES.items():
        if prefix + earlier in state:
            state[prefix + name] = state.pop(prefix + earlier)

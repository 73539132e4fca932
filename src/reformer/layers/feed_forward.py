"""The position-wise feed-forward layer, chunked over the sequence."""

from typing import Any

from torch import Tensor, nn

from reformer.layers.held import HeldTensors
from reformer.layers.passes import DecodingStep, ParallelPass, resolve_seed
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
        self.w_in = _XavierLinear(d_model, hidden)
        self.w_out = _XavierLinear(d_ff, d_model)
        self.register_load_state_dict_pre_hook(_rename_earlier)

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
            return self.w_out(dropout(active, drop, seed, first_position=first_position))

        return in_chunks(of_slice, x, self.chunk_len, again=HeldTensors(self).in_place)

    def step(self, x: Tensor, decoding: DecodingStep) -> Tensor:
        """See ``Branch.step``."""
        return in_chunks(lambda part, _: self.w_out(activate(self.w_in(part), self.activation)), x, self.chunk_len)


class _XavierLinear(nn.Linear):
    """Its start is its own, not its owner's, for tools that initialise module by module."""

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)


def _rename_earlier(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for earlier, name in _EARLIER_NAMES.items():
        if prefix + earlier in state:
            state[prefix + name] = state.pop(prefix + earlier)

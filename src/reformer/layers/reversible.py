"""The stack of reversible layers: attention and feed-forward as residual functions of two streams.

B batch, L length, S length of what a decoder reads beside its own tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from reformer.layers.attention import Saved, SelfAttention, resolve_seed
from reformer.layers.cross_attention import CrossAttention
from reformer.layers.feed_forward import FeedForward
from reformer.ops import Branch, derive_seed, dropout, residual_sequence, reversible_sequence

_INNER, _RESIDUAL_DROPOUT = 0, 1
Inner = SelfAttention | CrossAttention | FeedForward


class ResidualBranch(nn.Module):
    """dropout(inner(LayerNorm(x))): what a layer adds to a stream (pre-norm, as the authors' code)."""

    def __init__(self, d_model: int, inner: Inner, dropout: float, norm_eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.inner = inner
        self.dropout = dropout

    def forward(
        self,
        x: Tensor,
        seed: Tensor,
        segment_ids: Tensor | None,
        position_ids: Tensor | None,
        saved: Saved | None,
        training: bool,
        memory_segment_ids: Tensor | None = None,
        memory: Tensor | None = None,
    ) -> tuple[Tensor, Saved]:
        """(update [B, L, d_model], saved): a pure function of its arguments and the parameters.

        Cross-attention reads ``memory`` [B, S, d_model] with ``memory_segment_ids`` [B, S].
        """
        normed, inner_seed = self.norm(x), self.inner_seed(seed)
        if isinstance(self.inner, SelfAttention):
            out, saved = self.inner.attend(normed, inner_seed, segment_ids, position_ids, saved, training)
        elif isinstance(self.inner, CrossAttention):
            assert memory is not None
            keys, values = self.inner.read(memory)
            out = self.inner.attend(normed, keys, values, segment_ids, memory_segment_ids, inner_seed, training)
            saved = ()
        else:
            out, saved = self.inner(normed, seed=inner_seed, training=training), ()
        return dropout(out, self.dropout if training else 0.0, derive_seed(seed, _RESIDUAL_DROPOUT)), saved

    @staticmethod
    def inner_seed(seed: Tensor) -> Tensor:
        """The seed that ``inner`` gets when the branch gets ``seed``."""
        return derive_seed(seed, _INNER)


class ReversibleLayer(nn.Module):
    """The residual functions of one layer, two or in a decoder three; ``ReversibleStack`` applies them."""

    def __init__(
        self, attention: ResidualBranch, feed_forward: ResidualBranch, cross_attention: ResidualBranch | None
    ) -> None:
        super().__init__()
        self.attention, self.cross_attention, self.feed_forward = attention, cross_attention, feed_forward


class ReversibleStack(nn.Module):
    """Layers (attention, feed-forward) over two streams (paper, section 3): y1 = x1 + A(x2), y2 = x2 + F(y1).

    With ``cross_attention``, one for each layer, it is a decoder: attention, cross-attention to a memory, feed-forward,
    each adding to the stream that the one before it read (the order of the authors' code).

    ``reversible=True`` rebuilds activations in the backward pass, so their memory does not grow with depth; False is the
    same function with ordinary autograd. ``streams=1`` is the ordinary Transformer of the same layers, y = x + A(x) and
    y + F(y), which both returned streams are: what the paper compares with.

    Raises ValueError for ``streams=1`` with ``reversible=True``: one stream cannot be undone.
    """

    def __init__(
        self,
        d_model: int,
        layers: Sequence[tuple[SelfAttention, FeedForward]],
        *,
        cross_attention: Sequence[CrossAttention] = (),
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
        reversible: bool = True,
        streams: int = 2,
    ) -> None:
        super().__init__()
        require_streams(streams, reversible)
        self.reversible, self.streams = reversible, streams

        def branch(inner: Inner) -> ResidualBranch:
            return ResidualBranch(d_model, inner, dropout, norm_eps)

        self.layers: Iterable[ReversibleLayer] = nn.ModuleList(  # type: ignore[assignment]
            ReversibleLayer(
                branch(attention),
                branch(feed_forward),
                branch(cross_attention[index]) if cross_attention else None,
            )
            for index, (attention, feed_forward) in enumerate(layers)
        )

    def forward(
        self,
        x1: Tensor,
        x2: Tensor,
        *,
        seed: int | Tensor | None = None,
        segment_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        memory: Tensor | None = None,
        memory_segment_ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(y1, y2), both [B, L, d_model]; ``seed`` as in ``SelfAttention.forward``. One stream begins as ``x2``.

        A decoder reads ``memory`` [B, S, d_model], each token that of its own id in ``memory_segment_ids`` [B, S]
        (``reformer.ops.cross_attention``).
        """
        seed = resolve_seed(seed, self.training)
        layers = []
        for layer, (attention_seed, feed_forward_seed, cross_seed) in zip(self.layers, self.seeds(seed)):
            branches = [self._branch(layer.attention, attention_seed, segment_ids, position_ids)]
            if layer.cross_attention is not None:
                branches.append(
                    self._branch(layer.cross_attention, cross_seed, segment_ids, None, memory_segment_ids, True)
                )
            branches.append(self._branch(layer.feed_forward, feed_forward_seed, segment_ids, position_ids))
            layers.append(tuple(branches))
        shared = () if memory is None else (memory,)
        if self.streams == 1:
            y = residual_sequence(x2, layers, shared=shared)
            return y, y
        return reversible_sequence(x1, x2, layers, shared=shared, reversible=self.reversible)

    def added(self, x1: Tensor, x2: Tensor, update: Tensor) -> tuple[Tensor, Tensor]:
        """The streams after a residual function of ``x2`` gave ``update``; the next one reads the second of them."""
        if self.streams == 1:
            return (y := x2 + update), y
        return x2, x1 + update

    def seeds(self, seed: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each layer, the seeds of attention, feed-forward and cross-attention when the stack gets ``seed``."""
        return [
            (derive_seed(seed, index, 0), derive_seed(seed, index, 1), derive_seed(seed, index, 2))
            for index, _ in enumerate(self.layers)
        ]

    def _branch(
        self,
        module: nn.Module,
        seed: Tensor,
        segment_ids: Tensor | None,
        position_ids: Tensor | None,
        memory_segment_ids: Tensor | None = None,
        reads_memory: bool = False,
    ) -> Branch:
        # Taken now, because the mode may change between forward and backward.
        training = self.training
        named = dict(module.named_parameters())

        def function(x: Tensor, tensors: Sequence[Tensor], saved: Saved | None) -> tuple[Tensor, Saved]:
            memory = tensors[len(named) :]
            arguments = (x, seed, segment_ids, position_ids, saved, training, memory_segment_ids, *memory)
            return torch.func.functional_call(module, dict(zip(named, tensors)), arguments)

        return Branch(function, tuple(named.values()), reads_memory)


def require_streams(streams: int, reversible: bool) -> None:
    """Raise ValueError unless a stack can have so many streams."""
    if streams not in (1, 2):
        raise ValueError(f"streams must be 2, or 1 for an ordinary Transformer; got {streams}")
    if streams == 1 and reversible:
        raise ValueError("one stream cannot be undone: streams=1 needs reversible=False")

"""The stack of reversible layers: attention and feed-forward as residual functions of two streams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from reformer.layers.attention import Saved, SelfAttention, resolve_seed
from reformer.layers.feed_forward import FeedForward
from reformer.ops import Branch, derive_seed, dropout, reversible_sequence

_INNER, _RESIDUAL_DROPOUT = 0, 1


class ResidualBranch(nn.Module):
    """dropout(inner(LayerNorm(x))): what a layer adds to a stream (pre-norm, as the authors' code)."""

    def __init__(self, d_model: int, inner: SelfAttention | FeedForward, dropout: float, norm_eps: float) -> None:
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
    ) -> tuple[Tensor, Saved]:
        """(update [B, L, d_model], saved): a pure function of its arguments and the parameters."""
        normed, inner_seed = self.norm(x), self.inner_seed(seed)
        if isinstance(self.inner, SelfAttention):
            out, saved = self.inner.attend(normed, inner_seed, segment_ids, position_ids, saved, training)
        else:
            out, saved = self.inner(normed, seed=inner_seed, training=training), ()
        return dropout(out, self.dropout if training else 0.0, derive_seed(seed, _RESIDUAL_DROPOUT)), saved

    @staticmethod
    def inner_seed(seed: Tensor) -> Tensor:
        """The seed that ``inner`` gets when the branch gets ``seed``."""
        return derive_seed(seed, _INNER)


class ReversibleLayer(nn.Module):
    """The two residual functions of one layer; ``ReversibleStack`` applies them."""

    def __init__(self, attention: ResidualBranch, feed_forward: ResidualBranch) -> None:
        super().__init__()
        self.attention, self.feed_forward = attention, feed_forward


class ReversibleStack(nn.Module):
    """Layers (attention, feed-forward) over two streams (paper, section 3): y1 = x1 + A(x2), y2 = x2 + F(y1).

    ``reversible=True`` rebuilds activations in the backward pass, so their memory does not grow with depth; False is the
    same function with ordinary autograd.
    """

    def __init__(
        self,
        d_model: int,
        layers: Sequence[tuple[SelfAttention, FeedForward]],
        *,
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
        reversible: bool = True,
    ) -> None:
        super().__init__()
        self.reversible = reversible

        def branch(inner: SelfAttention | FeedForward) -> ResidualBranch:
            return ResidualBranch(d_model, inner, dropout, norm_eps)

        self.layers: Iterable[ReversibleLayer] = nn.ModuleList(  # type: ignore[assignment]
            ReversibleLayer(branch(attention), branch(feed_forward)) for attention, feed_forward in layers
        )

    def forward(
        self,
        x1: Tensor,
        x2: Tensor,
        *,
        seed: int | Tensor | None = None,
        segment_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(y1, y2), both [B, L, d_model]; ``seed`` as in ``SelfAttention.forward``."""
        seed = resolve_seed(seed, self.training)
        pairs = [
            (
                self._branch(layer.attention, attention_seed, segment_ids, position_ids),
                self._branch(layer.feed_forward, feed_forward_seed, segment_ids, position_ids),
            )
            for layer, (attention_seed, feed_forward_seed) in zip(self.layers, self.seeds(seed))
        ]
        return reversible_sequence(x1, x2, pairs, reversible=self.reversible)

    def seeds(self, seed: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of each layer, the seeds of its attention and its feed-forward when the stack gets ``seed``."""
        return [(derive_seed(seed, index, 0), derive_seed(seed, index, 1)) for index, _ in enumerate(self.layers)]

    def _branch(
        self, module: nn.Module, seed: Tensor, segment_ids: Tensor | None, position_ids: Tensor | None
    ) -> Branch:
        # Taken now, because the mode may change between forward and backward.
        training = self.training
        named = dict(module.named_parameters())

        def function(x: Tensor, parameters: Sequence[Tensor], saved: Saved | None) -> tuple[Tensor, Saved]:
            arguments = (x, seed, segment_ids, position_ids, saved, training)
            return torch.func.functional_call(module, dict(zip(named, parameters)), arguments)

        return Branch(function, tuple(named.values()))

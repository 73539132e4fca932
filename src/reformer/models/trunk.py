"""The trunk of a Reformer: embeddings, reversible stack and norm, all but the output head.

B batch, L length.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reformer.layers import (
    AxialPositions,
    CrossAttention,
    FeedForward,
    FullSelfAttention,
    LocalSelfAttention,
    LSHSelfAttention,
    ReversibleStack,
    SelfAttention,
    sinusoidal_positions,
)
from reformer.layers.attention import resolve_seed
from reformer.models.config import ReformerConfig
from reformer.models.decoding import STACK_SEED, DecodingState, decode_hidden
from reformer.ops import derive_seed, dropout, places_in_segments
from reformer.ops.checks import require_shape

_EMBEDDING_DROPOUT = 1


class ReformerTrunk(nn.Module):
    """All of a Reformer but its output head: what a language model shares with a classifier.

    The two streams both start as the embedding, and end as their concatenation after a LayerNorm, which is what the head
    of the authors' language model reads. Any input length from 1 to what the positions allow.
    """

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self._build(config)
        initialise(self, config)

    def _build(self, config: ReformerConfig) -> None:
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size + 2, config.d_model)
        self.positions = learned_positions(config)
        self.stack = reversible_stack(config)
        self.norm = nn.LayerNorm(2 * config.d_model, eps=config.layer_norm_eps)

    def hidden(
        self,
        tokens: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        segment_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        seed: int | Tensor | None = None,
    ) -> Tensor:
        """What the head reads [B, L, 2·d_model]: both streams, normalised. Arguments as in ``ReformerLM.forward``."""
        if (tokens is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of tokens and inputs_embeds")
        seed = resolve_seed(seed, self.training)
        x = self.embedding(tokens) if inputs_embeds is None else inputs_embeds
        if x.dim() != 3 or x.shape[1] < 1 or x.shape[2] != self.config.d_model:
            raise ValueError(
                f"the input must be tokens [batch, length >= 1] or embeddings [batch, length, {self.config.d_model}], "
                f"got embeddings of shape {list(x.shape)}"
            )
        self.config.require_length(x.shape[1])
        if segment_ids is not None:
            require_shape("segment_ids", segment_ids, tuple(x.shape[:2]), "[batch, length], as the input,")
            position_ids = places_in_segments(segment_ids) if position_ids is None else position_ids
        x = self.add_positions(x, position_ids)
        if self.training and self.config.dropout > 0.0:
            x = dropout(x, self.config.dropout, derive_seed(seed, _EMBEDDING_DROPOUT))
        y1, y2 = self.stack(
            x, x, seed=derive_seed(seed, STACK_SEED), segment_ids=segment_ids, position_ids=position_ids
        )
        return self.norm(torch.cat([y1, y2], dim=-1))

    def decoding_state(self, batch_size: int, max_len: int | None = None, seed: int | Tensor = 0) -> DecodingState:
        """An empty state for decoding: rows of at most ``max_len`` tokens (default: the longest input).

        It fixes what must not change during a generation: the rotations, from ``seed`` as in ``hidden``, and the number
        of buckets (``DecodingState.n_buckets``). Raises ValueError for a model that is not causal.
        """
        return DecodingState(self, batch_size, max_len, seed)

    @torch.no_grad()
    def decode_hidden(
        self,
        tokens: Tensor | None,
        state: DecodingState,
        segment_ids: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """What the head reads [B, T, 2·d_model] of the next tokens; arguments as in ``ReformerLM.decode``."""
        return decode_hidden(self, tokens, state, segment_ids, inputs_embeds, last_only)

    def add_positions(self, x: Tensor, position_ids: Tensor | None) -> Tensor:
        """x [B, L, d_model] with its positions (None: 0..L-1) added, where they are added and not rotated."""
        return with_positions(self.config, self.positions, x, position_ids)


def initialise(model: nn.Module, config: ReformerConfig) -> None:
    """Xavier weights and normal embeddings; last of all, so that a seed gives the same weights as ever."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=config.embedding_std)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)


def with_positions(
    config: ReformerConfig, learned: AxialPositions | None, x: Tensor, position_ids: Tensor | None
) -> Tensor:
    """x [B, L, d_model] with positions of the config's kind added; ``learned`` is their table, where they have one."""
    length = x.shape[1]
    if learned is not None:
        return x + learned(length, position_ids)
    if config.positions == "sinusoidal":
        ids = torch.arange(length, device=x.device) if position_ids is None else position_ids
        return x + sinusoidal_positions(ids, config.d_model).to(x.dtype)
    return x


def learned_positions(config: ReformerConfig) -> AxialPositions | None:
    """The table of positions, where they are learned."""
    if config.positions == "axial":
        return AxialPositions(config.axial_shape, config.axis_widths)
    if config.positions == "learned":
        return AxialPositions((config.max_len,), (config.d_model,))
    return None


def reversible_stack(config: ReformerConfig, cross_attention: Sequence[CrossAttention] = ()) -> ReversibleStack:
    """The layers of the config; with ``cross_attention``, one for each, those of a decoder."""
    return ReversibleStack(
        config.d_model,
        [(self_attention(config, kind), feed_forward(config)) for kind in config.attention],
        cross_attention=cross_attention,
        dropout=config.dropout,
        norm_eps=config.layer_norm_eps,
        reversible=config.reversible,
        streams=config.streams,
    )


def self_attention(config: ReformerConfig, kind: str) -> SelfAttention:
    """A layer of this kind, one of ``ATTENTION_KINDS``."""
    common: dict[str, Any] = {
        "head_dim": config.head_dim,
        "d_attn": config.d_attn,
        "causal": config.causal,
        "dropout": config.attention_dropout,
        "rotary": kind in config.rotary_kinds,
        "impl": config.impl,
    }
    if kind == "lsh":
        return LSHSelfAttention(
            config.d_model,
            config.n_heads,
            n_hashes=config.n_hashes,
            n_buckets=config.n_buckets,
            chunk_len=config.lsh_chunk_len,
            pattern=config.pattern,
            window=config.lsh_window,
            n_chunks_before=config.lsh_chunks_before,
            n_chunks_after=config.lsh_chunks_after,
            scale=config.attention_scale,
            **common,
        )
    common["shared_qk"] = config.shared_qk
    common["scale"] = config.attention_scale if config.shared_qk else None
    if kind == "local":
        return LocalSelfAttention(
            config.d_model,
            config.n_heads,
            chunk_len=config.local_chunk_len,
            n_chunks_before=config.local_chunks_before,
            n_chunks_after=config.local_chunks_after,
            wrap=config.local_wrap,
            **common,
        )
    return FullSelfAttention(config.d_model, config.n_heads, **common)


def feed_forward(config: ReformerConfig) -> FeedForward:
    """The feed-forward layer of the config."""
    return FeedForward(
        config.d_model,
        config.d_ff,
        activation=config.activation,
        chunk_len=config.ff_chunk_len,
        dropout=config.dropout,
    )

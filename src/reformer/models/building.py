"""The layers that a config describes, and their first weights."""

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
from reformer.models.config import ReformerConfig


def initialise(model: nn.Module, config: ReformerConfig) -> None:
    """Xavier weights and normal embeddings; last of all, so that a seed gives the same weights as ever."""
    drawn = feed_forward_linears(model)
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=config.embedding_std)
    for module in model.modules():
        if isinstance(module, nn.Linear) and module not in drawn:
            nn.init.xavier_uniform_(module.weight)


def feed_forward_linears(model: nn.Module) -> set[nn.Linear]:
    """The Linears whose first weights are the feed-forward layers' own affair."""
    return {linear for m in model.modules() if isinstance(m, FeedForward) for linear in (m.w_in, m.w_out)}


def reset_parameters(model: nn.Module, config: ReformerConfig) -> None:
    """First weights for a model that has memory but no values, as after ``to_empty`` of one made on the meta device."""
    # From the inside out: a layer may know better than its parts.
    for module in reversed([*model.modules()][1:]):
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    initialise(model, config)


def with_positions(
    config: ReformerConfig, learned: AxialPositions | None, x: Tensor, position_ids: Tensor | None
) -> Tensor:
    """x [B, L, d_model] with positions of the config's kind added; ``learned`` is their table, where they have one."""
    length = x.shape[1]
    if learned is not None:
        vectors: Tensor = learned(length, position_ids, device=x.device)
        return x + vectors
    if config.positions == "sinusoidal":
        ids = torch.arange(length, dtype=torch.int64, device=x.device) if position_ids is None else position_ids
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

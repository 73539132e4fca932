"""The Reformer encoder-decoder: reversible on both sides (paper, Table 4).

B batch, S source length, T target length, V target vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reformer.layers import CrossAttention, MemoryCache
from reformer.layers.held import HeldTensors
from reformer.layers.passes import resolve_seed
from reformer.models.building import initialise, learned_positions, reset_parameters, reversible_stack, with_positions
from reformer.models.changes import with_changed_config
from reformer.models.decoding import DecodingState, decode_streams, require_one_segment
from reformer.models.encoder_decoder_config import EncoderDecoderConfig
from reformer.models.head import logits_function, make_head
from reformer.ops import chunked_loss, derive_seed, dropout, places_in_segments
from reformer.ops.checks import require_shape

# Sub-streams of a call's seed; the decoder's stack is that of a language model, so its stream is STACK_SEED, 0.
_DECODER, _DECODER_EMBEDDING, _ENCODER, _ENCODER_EMBEDDING = range(4)


@dataclass
class EncoderDecoderState:
    """A translation so far, of B rows: the decoder's own state, and what it reads of the encoder's output."""

    decoder: DecodingState
    memories: list[MemoryCache]

    def reorder(self, rows: Tensor) -> None:
        """Row b becomes what row ``rows[b]`` was; see ``DecodingState.reorder``."""
        self.decoder.reorder(rows)
        for memory in self.memories:
            memory.reorder(rows.long())


class ReformerEncoderDecoder(nn.Module):
    """Encoder-decoder of ``EncoderDecoderConfig``, as the authors' (trax, ``Reformer``).

    Each side starts two streams as its embedding plus positions. An encoder layer is y1 = x1 + Attention(x2),
    y2 = x2 + FeedForward(y1). A decoder layer has three residual functions that take turns on the streams,

        z1 = x1 + SelfAttention(x2),   z2 = x2 + CrossAttention(z1, memory),   y1 = z1 + FeedForward(z2),

    after which the streams swap: the next layer's self-attention reads y1 and adds to y2 = z2. Each side ends in the mean of
    its streams and a LayerNorm; the encoder's is the memory, the decoder's goes to the head. Backward rebuilds both
    sides' activations; the memory is kept whole, and its gradient is summed over the decoder's layers as they are undone.
    """

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        D = config.d_model
        self.embedding = nn.Embedding(config.vocab_size + 2, D)
        V = config.source_vocab_size
        self.source_embedding = None if V is None else nn.Embedding(V, D)
        self.positions, self.source_positions = learned_positions(config), learned_positions(config)
        self.encoder = reversible_stack(config.encoder)
        self.memory_norm = nn.LayerNorm(D, eps=config.layer_norm_eps)
        self.stack = reversible_stack(config, [_cross_attention(config) for _ in config.attention])
        self.norm = nn.LayerNorm(D, eps=config.layer_norm_eps)
        self.head = make_head(config, streams=1)
        initialise(self, config)

    def reset_parameters(self) -> None:
        """First weights anew: after ``to_empty`` of a model that was made on the meta device."""
        reset_parameters(self, self.config)

    def forward(
        self,
        source: Tensor | None,
        tokens: Tensor,
        *,
        source_embeds: Tensor | None = None,
        targets: Tensor | None = None,
        source_segment_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        seed: int | Tensor | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Logits [B, T, V], or with ``targets`` [B, T] the loss in nats (-100: not counted), logits never whole.

        Args:
            source: ids [B, S]; ``tokens``: ids [B, T], of which position t predicts the token after tokens[:, t]
                (``shift_right`` makes such inputs).
            source_embeds: vectors [B, S, d_model] in place of a source of None (features of one's own).
            source_segment_ids, segment_ids: [B, S] and [B, T]; negative is padding, on either side inert. Packed pairs have
                ids of their own, the same on both sides: where both are given, a target token reads the source tokens
                of its id (none of that id: nothing). Where ``segment_ids`` is None it reads all that is not padding.
            seed: of rotations and dropout. None: torch's global generator in training, a fixed one in evaluation.
            reduction, label_smoothing: of the loss, as in ``reformer.ops.chunked_cross_entropy``.

        Raises ValueError for a length beyond the positions or shapes that do not fit.
        """
        seed = resolve_seed(seed, self.training)
        memory = self.encode(source, source_embeds=source_embeds, segment_ids=source_segment_ids, seed=seed)
        x = self._embed(self._target_embeddings(tokens), segment_ids, derive_seed(seed, _DECODER_EMBEDDING))
        require_shape("tokens", tokens, (memory.shape[0], None), "[batch of the source, length]")
        y1, y2 = self.stack(
            x,
            x,
            seed=derive_seed(seed, _DECODER),
            segment_ids=segment_ids,
            position_ids=_places(segment_ids),
            memory=memory,
            memory_segment_ids=source_segment_ids,
        )
        hidden = self.norm((y1 + y2) / 2)
        if targets is None:
            return self._to_logits(hidden)(hidden)
        return chunked_loss(
            self._to_logits(hidden),
            hidden,
            targets,
            chunk_len=self.config.loss_chunk_len,
            reduction=reduction,
            label_smoothing=label_smoothing,
            again=HeldTensors(self.head).in_place,
        )

    def encode(
        self,
        source: Tensor | None = None,
        *,
        source_embeds: Tensor | None = None,
        segment_ids: Tensor | None = None,
        seed: int | Tensor | None = None,
    ) -> Tensor:
        """The memory [B, S, d_model] of ``source`` [B, S], or of embeddings [B, S, d_model] in their place."""
        if (source is None) == (source_embeds is None):
            raise ValueError("give exactly one of source and source_embeds")
        seed = resolve_seed(seed, self.training)
        if source_embeds is None:
            assert source is not None
            source_embeds = self._source_embeddings(source)
        x = self._embed(source_embeds, segment_ids, derive_seed(seed, _ENCODER_EMBEDDING), is_source=True)
        y1, y2 = self.encoder(
            x, x, seed=derive_seed(seed, _ENCODER), segment_ids=segment_ids, position_ids=_places(segment_ids)
        )
        return self.memory_norm((y1 + y2) / 2)

    @torch.no_grad()
    def decoding_state(
        self,
        source: Tensor | None = None,
        *,
        source_embeds: Tensor | None = None,
        source_segment_ids: Tensor | None = None,
        max_len: int | None = None,
        seed: int | Tensor = 0,
    ) -> EncoderDecoderState:
        """A state for ``decode`` that holds the encoder's output for ``source`` [B, S], or vectors in its place, and no token.

        Rows of at most ``max_len`` target tokens (default: the longest input); ``seed`` fixes the rotations of both
        sides, as in ``forward``. Raises ValueError for a row of more than one segment.
        """
        modes = [(module, module.training) for module in self.modules()]
        try:
            memory = self.eval().encode(source, source_embeds=source_embeds, segment_ids=source_segment_ids, seed=seed)
        finally:
            for module, mode in modes:
                module.training = mode
        if source_segment_ids is not None:
            require_one_segment("source_segment_ids", source_segment_ids)
        decoder = DecodingState(self, memory.shape[0], max_len, seed)
        memories = [MemoryCache(memory=memory, segment_ids=source_segment_ids) for _ in self.config.attention]
        return EncoderDecoderState(decoder, memories)

    @torch.no_grad()
    def decode(
        self,
        tokens: Tensor,
        state: EncoderDecoderState,
        segment_ids: Tensor | None = None,
        *,
        last_only: bool = False,
    ) -> Tensor:
        """Logits [B, T, V] of the next target tokens [B, T] (``last_only``: [B, 1, V]); as ``ReformerLM.decode``."""
        x = self._target_embeddings(tokens)
        y1, y2 = decode_streams(self, x, state.decoder, segment_ids, last_only, state.memories)
        hidden = self.norm((y1 + y2) / 2)
        return self._to_logits(hidden)(hidden)

    def shift_right(self, tokens: Tensor) -> Tensor:
        """Inputs [B, T] whose targets are ``tokens`` [B, T]: the start id, then all tokens but the last."""
        return torch.cat([torch.full_like(tokens[:, :1], self.config.start_id), tokens[:, :-1]], dim=1)

    def add_positions(self, x: Tensor, position_ids: Tensor | None) -> Tensor:
        """x [B, T, d_model] of the target with its positions (None: 0..T-1), where they are added and not rotated."""
        return with_positions(self.config, self.positions, x, position_ids)

    def with_changes(self, **changes: Any) -> ReformerEncoderDecoder:
        """A model with the same weights and a changed config (reversible, attention kinds, ...).

        Raises ValueError if the change needs other parameters.
        """
        return with_changed_config(self, changes)

    def _source_embeddings(self, source: Tensor) -> Tensor:
        return self._target_embeddings(source) if self.source_embedding is None else self.source_embedding(source)

    def _target_embeddings(self, tokens: Tensor) -> Tensor:
        scale = self.config.d_model**0.5 if self.config.tie_embeddings else 1.0
        return self.embedding(tokens) * scale

    def _embed(self, x: Tensor, segment_ids: Tensor | None, seed: Tensor, *, is_source: bool = False) -> Tensor:
        """Embeddings with positions and dropout."""
        config = self.config
        side = "source" if is_source else "target"
        if x.dim() != 3 or x.shape[1] < 1 or x.shape[2] != config.d_model:
            raise ValueError(f"the {side} must be tokens [batch, length >= 1], got embeddings of shape {list(x.shape)}")
        config.require_length(x.shape[1])
        if segment_ids is not None:
            name = "source_segment_ids" if is_source else "segment_ids"
            require_shape(name, segment_ids, tuple(x.shape[:2]), f"[batch, length], as the {side},")
        learned = self.source_positions if is_source else self.positions
        x = with_positions(config, learned, x, _places(segment_ids))
        return dropout(x, config.dropout if self.training else 0.0, seed)

    def _to_logits(self, hidden: Tensor) -> Callable[[Tensor], Tensor]:
        return logits_function(self.config, self.head, self.embedding, hidden.device)


def _cross_attention(config: EncoderDecoderConfig) -> CrossAttention:
    return CrossAttention(
        config.d_model,
        config.n_heads,
        head_dim=config.head_dim,
        d_attn=config.d_attn,
        dropout=config.attention_dropout,
        impl="reference" if config.impl == "reference" else "auto",
    )


def _places(segment_ids: Tensor | None) -> Tensor | None:
    return None if segment_ids is None else places_in_segments(segment_ids)

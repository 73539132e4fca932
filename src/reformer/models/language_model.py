"""The Reformer language model: embeddings, reversible stack, output head.

B batch, L length, V vocabulary.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from reformer.layers import (
    AxialPositions,
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
from reformer.ops import chunked_cross_entropy, derive_seed, dropout, places_in_segments

_EMBEDDING_DROPOUT = 1


class ReformerLM(nn.Module):
    """Language model of ``ReformerConfig``: causal, or bidirectional for masked-token training.

    The two streams both start as the embedding; the head reads their concatenation after a LayerNorm, as the authors'
    language model. Any input length from 1 to what the positions allow.
    """

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size + 2, config.d_model)
        self.positions = _learned_positions(config)
        layers = [(_attention(config, kind), _feed_forward(config)) for kind in config.attention]
        self.stack = ReversibleStack(config.d_model, layers, dropout=config.dropout, reversible=config.reversible)
        self.norm = nn.LayerNorm(2 * config.d_model)
        self.head = nn.Linear(2 * config.d_model, config.vocab_size)
        nn.init.normal_(self.embedding.weight, std=config.embedding_std)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def forward(
        self,
        tokens: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        targets: Tensor | None = None,
        segment_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        seed: int | Tensor | None = None,
        reduction: str = "mean",
    ) -> Tensor:
        """Logits [B, L, V], or with ``targets`` [B, L] the loss in nats (-100: not counted), logits never whole.

        Args:
            tokens: ids [B, L], or ``inputs_embeds`` [B, L, d_model] in their place. A causal model predicts at position
                t the token *after* tokens[:, t]; ``shift_right`` makes such inputs.
            segment_ids: [B, L]; a token sees only its own segment, a negative id is padding.
            position_ids: [B, L]; default: the place of a token in its segment, so padding on either side is inert.
            seed: of rotations and dropout. None: torch's global generator in training, a fixed one in evaluation.
            reduction: of the loss: "mean", "sum", or "none" for [B, L].

        Raises ValueError for a length beyond the positions or shapes that do not fit.
        """
        hidden = self.hidden(
            tokens, inputs_embeds=inputs_embeds, segment_ids=segment_ids, position_ids=position_ids, seed=seed
        )
        if targets is None:
            return self.head(hidden)
        return chunked_cross_entropy(
            hidden,
            self.head.weight,
            self.head.bias,
            targets,
            chunk_len=self.config.loss_chunk_len,
            reduction=reduction,
        )

    def hidden(
        self,
        tokens: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        segment_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        seed: int | Tensor | None = None,
    ) -> Tensor:
        """What the head reads [B, L, 2·d_model]: both streams, normalised. Arguments as in ``forward``."""
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
        if position_ids is None and segment_ids is not None:
            position_ids = places_in_segments(segment_ids)
        x = self.add_positions(x, position_ids)
        if self.training and self.config.dropout > 0.0:
            x = dropout(x, self.config.dropout, derive_seed(seed, _EMBEDDING_DROPOUT))
        y1, y2 = self.stack(
            x, x, seed=derive_seed(seed, STACK_SEED), segment_ids=segment_ids, position_ids=position_ids
        )
        return self.norm(torch.cat([y1, y2], dim=-1))

    def decoding_state(self, batch_size: int, max_len: int | None = None, seed: int | Tensor = 0) -> DecodingState:
        """An empty state for ``decode``: rows of at most ``max_len`` tokens (default: the longest input).

        It fixes what must not change during a generation: the rotations, from ``seed`` as in ``forward``, and the number
        of buckets (``DecodingState.n_buckets``). Raises ValueError for a model that is not causal.
        """
        return DecodingState(self, batch_size, max_len, seed)

    @torch.no_grad()
    def decode(
        self,
        tokens: Tensor | None,
        state: DecodingState,
        segment_ids: Tensor | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Logits [B, T, V] of the next tokens [B, T] (``last_only``: [B, 1, V]); ``state`` then holds them too.

        Several tokens on an empty state are one parallel pass, the prompt's; later ones are decoded in turn, at a cost
        that does not grow with what came before. Neither dropout nor gradients, in training mode too. With pattern
        "bucket", local and full layers the logits are those of the parallel pass over all tokens, to rounding; what
        "paper" and "trax" see is in docs/algorithm.md, "Decoding".

        Args:
            segment_ids: [B, T]; negative is padding, wherever it stands; all other tokens of a row are one segment.

        Raises ValueError or TypeError for shapes that do not fit and beyond the state's ``max_len``.
        """
        return self.head(
            self.decode_hidden(tokens, state, segment_ids, inputs_embeds=inputs_embeds, last_only=last_only)
        )

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
        """What the head reads [B, T, 2·d_model] of the next tokens; arguments as in ``decode``."""
        return decode_hidden(self, tokens, state, segment_ids, inputs_embeds, last_only)

    def shift_right(self, tokens: Tensor) -> Tensor:
        """Inputs [B, L] whose targets are ``tokens`` [B, L]: the start id, then all tokens but the last."""
        return torch.cat([torch.full_like(tokens[:, :1], self.config.start_id), tokens[:, :-1]], dim=1)

    def with_changes(self, **changes: Any) -> "ReformerLM":
        """A model with the same weights and a changed config (attention, n_hashes, pattern, reversible, ...).

        Raises ValueError if the change needs other parameters.
        """
        changed = ReformerLM(dataclasses.replace(self.config, **changes))
        mine = {name: tuple(p.shape) for name, p in self.state_dict().items()}
        theirs = {name: tuple(p.shape) for name, p in changed.state_dict().items()}
        if mine != theirs:
            odd = sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
            raise ValueError(f"{changes} needs other parameters than this model has: {', '.join(odd[:4])}")
        # First the dtype, then the weights: the other way round would round them to float32.
        changed.to(self.head.weight.device, self.head.weight.dtype).load_state_dict(self.state_dict())
        for mine_p, changed_p in zip(self.parameters(), changed.parameters()):
            changed_p.requires_grad_(mine_p.requires_grad)
        return changed.train(self.training)

    def add_positions(self, x: Tensor, position_ids: Tensor | None) -> Tensor:
        """x [B, L, d_model] with its positions (None: 0..L-1) added, where they are added and not rotated."""
        length = x.shape[1]
        if self.positions is not None:
            return x + self.positions(length, position_ids)
        if self.config.positions == "sinusoidal":
            ids = torch.arange(length, device=x.device) if position_ids is None else position_ids
            return x + sinusoidal_positions(ids, self.config.d_model).to(x.dtype)
        return x


def _learned_positions(config: ReformerConfig) -> AxialPositions | None:
    if config.positions == "axial":
        return AxialPositions(config.axial_shape, config.axis_widths)
    if config.positions == "learned":
        return AxialPositions((config.max_len,), (config.d_model,))
    return None


def _attention(config: ReformerConfig, kind: str) -> SelfAttention:
    common: dict[str, Any] = {
        "head_dim": config.head_dim,
        "d_attn": config.d_attn,
        "causal": config.causal,
        "dropout": config.attention_dropout,
        "rotary": config.positions == "rotary",
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
            scale=config.attention_scale,
            **common,
        )
    common["shared_qk"] = config.shared_qk
    common["scale"] = config.attention_scale if config.shared_qk else None
    if kind == "local":
        return LocalSelfAttention(config.d_model, config.n_heads, chunk_len=config.local_chunk_len, **common)
    return FullSelfAttention(config.d_model, config.n_heads, **common)


def _feed_forward(config: ReformerConfig) -> FeedForward:
    return FeedForward(
        config.d_model,
        config.d_ff,
        activation=config.activation,
        chunk_len=config.ff_chunk_len,
        dropout=config.dropout,
    )

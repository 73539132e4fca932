"""The Reformer language model: a trunk (embeddings, reversible stack and norm) and an output head.

B batch, L length, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from reformer.layers.held import HeldTensors
from reformer.layers.passes import resolve_seed
from reformer.models.building import initialise, learned_positions, reset_parameters, reversible_stack, with_positions
from reformer.models.changes import with_changed_config
from reformer.models.config import ReformerConfig
from reformer.models.decoding import STACK_SEED, DecodingState, decode_streams
from reformer.models.head import logits_function, make_head
from reformer.ops import chunked_loss, derive_seed, dropout, places_in_segments
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

    def reset_parameters(self) -> None:
        """First weights anew: after ``to_empty`` of a model that was made on the meta device."""
        reset_parameters(self, self.config)

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
        hidden: Tensor = self.norm(torch.cat([y1, y2], dim=-1))
        return hidden

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
        if (tokens is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of tokens and inputs_embeds")
        x = self.embedding(tokens) if inputs_embeds is None else inputs_embeds
        y1, y2 = decode_streams(self, x, state, segment_ids, last_only)
        hidden: Tensor = self.norm(torch.cat([y1, y2], dim=-1))
        return hidden

    def add_positions(self, x: Tensor, position_ids: Tensor | None) -> Tensor:
        """x [B, L, d_model] with its positions (None: 0..L-1) added, where they are added and not rotated."""
        return with_positions(self.config, self.positions, x, position_ids)


class ReformerLM(ReformerTrunk):
    """Language model of ``ReformerConfig``: causal, or bidirectional for masked-token training."""

    def _build(self, config: ReformerConfig) -> None:
        super()._build(config)
        self.head = make_head(config)

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
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Logits [B, L, V], or with ``targets`` [B, L] the loss in nats (-100: not counted), logits never whole.

        Args:
            tokens: ids [B, L], or ``inputs_embeds`` [B, L, d_model] in their place. A causal model predicts at position
                t the token *after* tokens[:, t]; ``shift_right`` makes such inputs.
            segment_ids: [B, L]; a token sees only its own segment, a negative id is padding.
            position_ids: [B, L]; default: the place of a token in its segment, so padding on either side is inert.
            seed: of rotations and dropout. None: torch's global generator in training, a fixed one in evaluation.
            reduction: of the loss: "mean", "sum", or "none" for [B, L].
            label_smoothing: of the loss, as in torch.nn.functional.cross_entropy.

        Raises ValueError for a length beyond the positions or shapes that do not fit.
        """
        hidden = self.hidden(
            tokens, inputs_embeds=inputs_embeds, segment_ids=segment_ids, position_ids=position_ids, seed=seed
        )
        if targets is None:
            return self.logits(hidden)
        return chunked_loss(
            self._to_logits(hidden),
            hidden,
            targets,
            chunk_len=self.config.loss_chunk_len,
            reduction=reduction,
            label_smoothing=label_smoothing,
            again=HeldTensors(self.head).in_place,
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [.., V] of what ``hidden`` returns [.., 2·d_model]."""
        return self._to_logits(hidden)(hidden)

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
        return self.logits(
            self.decode_hidden(tokens, state, segment_ids, inputs_embeds=inputs_embeds, last_only=last_only)
        )

    def shift_right(self, tokens: Tensor) -> Tensor:
        """Inputs [B, L] whose targets are ``tokens`` [B, L]: the start id, then all tokens but the last."""
        return torch.cat([torch.full_like(tokens[:, :1], self.config.start_id), tokens[:, :-1]], dim=1)

    def with_changes(self, **changes: Any) -> "ReformerLM":
        """A model with the same weights and a changed config (attention, n_hashes, pattern, reversible, ...).

        Raises ValueError if the change needs other parameters.
        """
        return with_changed_config(self, changes)

    def _to_logits(self, hidden: Tensor) -> Callable[[Tensor], Tensor]:
        return logits_function(self.config, self.head, self.embedding, hidden.device)

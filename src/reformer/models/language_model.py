"""The Reformer language model: a trunk and an output head.

B batch, L length, V vocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reformer.models.changes import with_changed_config
from reformer.models.config import ReformerConfig
from reformer.models.decoding import DecodingState
from reformer.models.head import linear_arguments, make_head
from reformer.models.trunk import ReformerTrunk
from reformer.ops import chunked_cross_entropy


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
        return chunked_cross_entropy(
            *linear_arguments(self.head, hidden, self.embedding.weight),
            targets,
            chunk_len=self.config.loss_chunk_len,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [.., V] of what ``hidden`` returns [.., 2·d_model]."""
        return F.linear(*linear_arguments(self.head, hidden, self.embedding.weight))

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

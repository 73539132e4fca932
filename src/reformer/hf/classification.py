"""Heads that read the trunk: of a sequence, of each token, of an answer's two ends.

What their ``forward`` does not name goes to ``ReformerTorchModel.forward`` (``seed``) and to the loss of transformers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import (
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils import can_return_tuple

from reformer.hf.configuration import ReformerTorchConfig
from reformer.hf.inputs import require_labels, segments
from reformer.hf.modeling import ReformerTorchModel, ReformerTorchPreTrainedModel


class _Classifier(ReformerTorchPreTrainedModel):
    """Trunk and one linear map from the hidden states, by default to the labels."""

    def __init__(self, config: ReformerTorchConfig, n_outputs: int | None = None) -> None:
        super().__init__(config)
        self.reformer = ReformerTorchModel(config)
        self.classifier = nn.Linear(2 * config.d_model, config.num_labels if n_outputs is None else n_outputs)
        self.post_init()


class ReformerTorchForSequenceClassification(_Classifier):
    """One label, or several, of a sequence.

    A causal model is read at the last real token, which alone has seen all others, whatever side the padding is on;
    a bidirectional one in the mean over its real tokens.
    """

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Logits [B, num_labels]; with ``labels`` the loss of config.problem_type. See ``ReformerTorchModel``.

        Without attention_mask every token is real.
        """
        if attention_mask is None and input_ids is not None:
            self.warn_if_padding_and_no_attention_mask(input_ids, attention_mask)
        outputs = self.reformer(input_ids, attention_mask, position_ids, inputs_embeds=inputs_embeds, **kwargs)
        hidden = outputs.last_hidden_state
        pool = _last if self.config.causal else _mean
        logits = self.classifier(pool(hidden, segments(attention_mask, *hidden.shape[:2])))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config, **kwargs)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class ReformerTorchForTokenClassification(_Classifier):
    """A label of each token."""

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Logits [B, L, num_labels]; with ``labels`` [B, L] (-100: not counted) the loss. See ``ReformerTorchModel``."""
        outputs = self.reformer(input_ids, attention_mask, position_ids, inputs_embeds=inputs_embeds, **kwargs)
        logits = self.classifier(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            require_labels(labels, *logits.shape[:2])
            loss = self.loss_function(logits, labels, self.config, **kwargs)
        return TokenClassifierOutput(loss=loss, logits=logits)


class ReformerTorchForQuestionAnswering(_Classifier):
    """Where an answer starts and ends."""

    def __init__(self, config: ReformerTorchConfig) -> None:
        super().__init__(config, 2)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        """Start and end logits [B, L] each; with both positions [B] the mean of their losses. See ``ReformerTorchModel``.

        Positions beyond the sequence do not count.
        """
        outputs = self.reformer(input_ids, attention_mask, position_ids, inputs_embeds=inputs_embeds, **kwargs)
        start_logits, end_logits = self.classifier(outputs.last_hidden_state).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = self.loss_function(start_logits, end_logits, start_positions, end_positions, **kwargs)
        return QuestionAnsweringModelOutput(
            loss=loss, start_logits=start_logits.contiguous(), end_logits=end_logits.contiguous()
        )


def _last(hidden: Tensor, segment_ids: Tensor | None) -> Tensor:
    """At each row's last real token, wherever its padding is; at the last position if it has none."""
    if segment_ids is None:
        return hidden[:, -1]
    batch_size, length = segment_ids.shape
    places = torch.arange(length, dtype=torch.int64, device=hidden.device).expand(batch_size, length)
    last = places.masked_fill(segment_ids < 0, -1).amax(-1)
    last = torch.where(last < 0, length - 1, last)
    return hidden[torch.arange(batch_size, dtype=torch.int64, device=hidden.device), last]


def _mean(hidden: Tensor, segment_ids: Tensor | None) -> Tensor:
    if segment_ids is None:
        return hidden.mean(1)
    real = (segment_ids >= 0)[..., None]
    return hidden.masked_fill(~real, 0.0).sum(1) / real.sum(1).clamp_min(1)

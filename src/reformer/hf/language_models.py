"""The two language models: ``ForCausalLM``, which generates, and ``ForMaskedLM``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers.modeling_outputs import CausalLMOutputWithPast, MaskedLMOutput
from transformers.utils import can_return_tuple

from reformer.hf.cache import ReformerCache
from reformer.hf.configuration import ReformerTorchConfig
from reformer.hf.generation import ReformerGenerationMixin
from reformer.hf.inputs import next_tokens, require_labels, segments
from reformer.hf.losses import head_loss
from reformer.hf.modeling import ReformerTorchModel, ReformerTorchPreTrainedModel
from reformer.models.head import logits_function, make_head


class _LanguageModel(ReformerTorchPreTrainedModel):
    """Trunk and language-model head; in evaluation labels give loss and logits, in training the loss alone.

    So that in training the [B, L, V] logits never exist; leave labels out to have them there.
    """

    def __init__(self, config: ReformerTorchConfig) -> None:
        super().__init__(config)
        self.reformer = ReformerTorchModel(config)
        self.lm_head = make_head(config.to_reformer())
        self.post_init()

    def _logits(self, hidden: Tensor) -> Tensor:
        return self._head(hidden)(hidden)

    def _loss(self, hidden: Tensor, targets: Tensor, n_items: Tensor | int | None) -> Tensor:
        chunk_len = self.config.loss_chunk_len
        return head_loss(self._head(hidden), hidden, targets, chunk_len=chunk_len, n_items=n_items)

    def _head(self, hidden: Tensor) -> Callable[[Tensor], Tensor]:
        return logits_function(self._trunk.config, self.lm_head, self._trunk.embedding, hidden.device)


class ReformerTorchForCausalLM(_LanguageModel, ReformerGenerationMixin):
    """Predicts at each token the next one; ``generate`` decodes with a cache. Needs ``causal=True``."""

    # The cache cannot drop tokens again: transformers then refuses assisted decoding in a line of its own.
    _is_stateful = True

    def __init__(self, config: ReformerTorchConfig) -> None:
        if not config.causal:
            raise ValueError("a causal language model needs config.causal=True, got False; use ...ForMaskedLM")
        super().__init__(config)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: ReformerCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        seed: int | Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, L, V]; with ``labels`` [B, L], which are shifted here, the loss: see ``ReformerTorchModel``.

        ``logits_to_keep``: only the last so many positions (0: all), or these indices. Padding, and what it would
        predict or be predicted from, counts nothing in the loss.
        """
        outputs = self.reformer(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache=use_cache,
            seed=seed,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        loss = None
        if labels is not None:
            require_labels(labels, *hidden.shape[:2])
            targets = next_tokens(labels, segments(attention_mask, *hidden.shape[:2]))
            loss = self._loss(hidden, targets, num_items_in_batch)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        with_logits = labels is None or not self.training
        return CausalLMOutputWithPast(
            loss=loss,
            logits=self._logits(hidden[:, kept]) if with_logits else None,
            past_key_values=outputs.past_key_values,
        )


class ReformerTorchForMaskedLM(_LanguageModel):
    """Predicts hidden tokens from both sides. Needs ``causal=False``."""

    def __init__(self, config: ReformerTorchConfig) -> None:
        if config.causal:
            raise ValueError("a masked language model needs config.causal=False, got True; use ...ForCausalLM")
        super().__init__(config)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        seed: int | Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Logits [B, L, V]; with ``labels`` [B, L] (-100: not counted) the loss. See ``ReformerTorchModel``."""
        outputs = self.reformer(
            input_ids, attention_mask, position_ids, inputs_embeds=inputs_embeds, seed=seed, **kwargs
        )
        hidden = outputs.last_hidden_state
        loss = None
        if labels is not None:
            require_labels(labels, *hidden.shape[:2])
            loss = self._loss(hidden, labels, num_items_in_batch)
        with_logits = labels is None or not self.training
        return MaskedLMOutput(loss=loss, logits=self._logits(hidden) if with_logits else None)

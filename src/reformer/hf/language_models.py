"""The two language models: ``ForCausalLM``, which generates, and ``ForMaskedLM``."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.modeling_outputs import CausalLMOutputWithPast, MaskedLMOutput
from transformers.utils import can_return_tuple

from reformer.hf.cache import ReformerCache
from reformer.hf.configuration import ReformerTorchConfig
from reformer.hf.generation import ReformerGenerationMixin
from reformer.hf.inputs import IGNORED, next_tokens, require_labels
from reformer.hf.modeling import ReformerTorchModel, ReformerTorchPreTrainedModel
from reformer.models.head import logits_function, make_head
from reformer.ops import chunked_loss


class _LanguageModel(ReformerTorchPreTrainedModel):
    """Trunk and language-model head; in evaluation labels give loss and logits, in training the loss alone.

    So that in training the [B, L, V] logits never exist; leave labels out to have them there.
    """

    def __init__(self, config: ReformerTorchConfig) -> None:
        super().__init__(config)
        self.reformer = ReformerTorchModel(config)
        self.lm_head = make_head(config.to_reformer())
        self.post_init()

    def _scores(
        self, hidden: Tensor, targets: Tensor | None, n_items: Tensor | int | None, kept: Any = slice(None)
    ) -> dict[str, Tensor | None]:
        """The loss over targets [B, L] that are not -100, if there are any, and the logits of the ``kept`` positions.

        The loss is the mean in nats, or the sum over ``n_items``: what the Trainer gives when it accumulates gradients.
        """
        head, loss = logits_function(self._trunk.config, self.lm_head, self._trunk.embedding, hidden.device), None
        if targets is not None:
            loss = chunked_loss(
                head,
                hidden,
                targets,
                chunk_len=self.config.loss_chunk_len,
                ignore_index=IGNORED,
                reduction="mean" if n_items is None else "sum",
            )
            loss = loss if n_items is None else loss / n_items
        with_logits = targets is None or not self.training
        return {"loss": loss, "logits": head(hidden[:, kept]) if with_logits else None}


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
        targets = None if labels is None else next_tokens(labels, attention_mask, *hidden.shape[:2])
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        scores = self._scores(hidden, targets, num_items_in_batch, kept)
        return CausalLMOutputWithPast(**scores, past_key_values=outputs.past_key_values)


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
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Logits [B, L, V]; with ``labels`` [B, L] (-100: not counted) the loss. See ``ReformerTorchModel``."""
        outputs = self.reformer(input_ids, attention_mask, position_ids, inputs_embeds=inputs_embeds, **kwargs)
        hidden = outputs.last_hidden_state
        if labels is not None:
            require_labels(labels, *hidden.shape[:2])
        return MaskedLMOutput(**self._scores(hidden, labels, num_items_in_batch))

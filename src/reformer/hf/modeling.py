"""``ReformerTorchModel``: the trunk as a transformers model, and what all models with a head share with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, cast

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils import can_return_tuple, logging

from reformer.hf.cache import ReformerCache
from reformer.hf.configuration import ReformerTorchConfig
from reformer.hf.inputs import segments
from reformer.hf.resizing import resize_vocabulary
from reformer.models import ReformerTrunk
from reformer.models.building import feed_forward_linears

logger = logging.get_logger(__name__)

# transformers renames while it reads, before any hook of a module.
_EARLIER_NAMES = {
    rf"\.feed_forward\.inner\.{earlier}(?!\.)": f".feed_forward.inner.{name}"
    for earlier, name in (
        ("w_in", "w_in.weight"),
        ("b_in", "w_in.bias"),
        ("w_out", "w_out.weight"),
        ("b_out", "w_out.bias"),
    )
}


class ReformerTorchPreTrainedModel(PreTrainedModel):
    """Initialisation, embeddings and wrapping of our models, for every head."""

    config_class = ReformerTorchConfig
    config: ReformerTorchConfig
    base_model_prefix = "reformer"
    supports_gradient_checkpointing = True
    _no_split_modules = ["ReversibleLayer"]  # noqa: RUF012 - transformers' own convention

    @property
    def _trunk(self) -> ReformerTrunk:
        return cast(ReformerTrunk, self.base_model.trunk)

    @classmethod
    def from_reformer(cls, model: ReformerTrunk, **changes: Any) -> Self:
        """A copy of a trained model, its head too where this class has one like it; any other head is new.

        ``changes``: fields of transformers' config, for example num_labels. The input-only ids become special tokens:
        start is bos for a causal model and pads a bidirectional one, which knows no start; mask is the other way round.
        Raises ValueError if a causal model is asked of a bidirectional one, or the other way round.
        """
        start, mask = model.config.start_id, model.config.mask_id
        tokens = {"bos_token_id": start, "pad_token_id": mask} if model.config.causal else {"pad_token_id": start}
        config = ReformerTorchConfig.from_reformer(model.config, **{**tokens, **changes})
        wrapped = cls(config)
        wrapped.to(device=model.norm.weight.device, dtype=model.norm.weight.dtype)
        weights = model.state_dict()
        head = {name.removeprefix("head."): weights.pop(name) for name in [*weights] if name.startswith("head.")}
        wrapped._trunk.load_state_dict(weights)
        if head and wrapped.get_output_embeddings() is not None:
            wrapped.get_output_embeddings().load_state_dict(head)
        wrapped.train(model.training)
        return wrapped

    @classmethod
    def from_run(cls, directory: str | Path, which: str = "latest", **changes: Any) -> Self:
        """The "latest" or "best" checkpoint of a folder that ``reformer train`` wrote, in evaluation mode.

        Raises RunError (a ValueError) if there is none.
        """
        from reformer.training.run_directory import load_trained

        _, model, _ = load_trained(Path(directory), which, logger.warning)
        return cls.from_reformer(model, **changes)

    @classmethod
    def from_pretrained(cls, *args: Any, key_mapping: dict[str, str] | None = None, **kwargs: Any) -> Any:
        """transformers' own; also of folders written before the feed-forward layer was two Linears.

        Such a folder keeps its names when it is saved again, as transformers does with all that it renames.
        """
        return super().from_pretrained(*args, key_mapping={**_EARLIER_NAMES, **(key_mapping or {})}, **kwargs)

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Embedding:
        """Change the predicted vocabulary; every id keeps its row, and start and mask are again the two ids after it.

        Returns the input embeddings, of vocab_size + 2 rows. New rows, of embedding and head, are the mean of the old
        ones, or drawn as at the start if ``mean_resizing`` is off. Raises ValueError for sizes below 1.
        """
        vocab_size = self.config.vocab_size if new_num_tokens is None else new_num_tokens
        if pad_to_multiple_of is not None:
            vocab_size = -(-vocab_size // pad_to_multiple_of) * pad_to_multiple_of
        if vocab_size != self.config.vocab_size:
            resize_vocabulary(self._trunk, self.get_output_embeddings(), vocab_size, mean=mean_resizing)
            self.config.vocab_size = vocab_size
        return self._trunk.embedding

    def _init_weights(self, module: nn.Module) -> None:
        # The initialisation of ReformerLM. transformers guards torch.nn.init meanwhile, so that what was loaded stays.
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.embedding_std)
        elif hasattr(module, "reset_parameters") and not isinstance(module, ReformerTrunk):
            cast(Any, module).reset_parameters()
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module in feed_forward_linears(self):
                    nn.init.zeros_(module.bias)


class ReformerTorchModel(ReformerTorchPreTrainedModel):
    """The Reformer without a head: ``last_hidden_state`` is [B, L, 2·d_model], both streams, normalised."""

    def __init__(self, config: ReformerTorchConfig) -> None:
        super().__init__(config)
        self.trunk = ReformerTrunk(config.to_reformer())
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: ReformerCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        seed: int | Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states of ``input_ids`` [B, L] or ``inputs_embeds`` [B, L, d_model].

        Args:
            attention_mask: [B, L], 0 is padding on whichever side; with a cache of P tokens [B, P + L].
            position_ids: [B, L]; default: the place of a token among the real ones of its row.
            past_key_values: what an earlier call with ``use_cache`` returned; it is updated in place.
            seed: of rotations and dropout; default: config.hash_seed in evaluation, a fresh draw in training.

        Raises ValueError for inputs that do not fit, and for outputs that reversible layers do not keep.
        """
        _require_kept(self.config, kwargs)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if use_cache or past_key_values is not None:
            cache = ReformerCache() if past_key_values is None else past_key_values
            seed = self.config.hash_seed if seed is None else seed
            hidden = cache.extend(
                self.trunk, input_ids, inputs_embeds, attention_mask, position_ids=position_ids, seed=seed
            )
            return BaseModelOutputWithPast(last_hidden_state=hidden, past_key_values=cache)
        if seed is None and not self.training:
            seed = self.config.hash_seed
        given = inputs_embeds if input_ids is None else input_ids
        assert given is not None
        hidden = self.trunk.hidden(
            input_ids,
            inputs_embeds=inputs_embeds,
            segment_ids=segments(attention_mask, *given.shape[:2]),
            position_ids=position_ids,
            seed=seed,
        )
        return BaseModelOutputWithPast(last_hidden_state=hidden)

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embeddings, of vocab_size + 2 rows: the last two are the start and the mask token."""
        return self.trunk.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embeddings; ``resize_token_embeddings`` is what also changes the vocabulary."""
        self.trunk.embedding = value

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether activations are recomputed, which reversible layers do anyway."""
        return self.trunk.stack.reversible

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enable: bool) -> None:
        if enable and self.config.streams == 1:
            raise ValueError(
                "an ordinary Transformer (streams=1) cannot recompute here: leave gradient checkpointing off"
            )
        if enable and self.config.reversible:
            logger.warning_once("gradient checkpointing changes nothing here: reversible layers recompute already")
        # A stack with reversible=False is the same function with ordinary autograd: there the flag has a meaning.
        self.trunk.stack.reversible = enable or self.config.reversible


def _require_kept(config: ReformerTorchConfig, kwargs: dict[str, Any]) -> None:
    for name in ("output_hidden_states", "output_attentions"):
        wanted = kwargs.get(name)
        if getattr(config, name, False) if wanted is None else wanted:
            raise ValueError(f"{name}=True: reversible layers keep neither; leave it off and read last_hidden_state")

"""``generate`` of a causal model: our cache in place of transformers' own, and room checked before the first token."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import GenerationConfig
from transformers.generation import GenerationMixin

from reformer.hf.cache import ReformerCache
from reformer.hf.configuration import ReformerTorchConfig


class ReformerGenerationMixin(GenerationMixin):
    """Greedy, sampling and beams, with the cache or (``use_cache=False``) a parallel pass for each token.

    ``seed`` in ``generate(.., seed=1)`` fixes the rotations of the whole generation (default: config.hash_seed).
    """

    config: ReformerTorchConfig

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, *args: Any, inputs_embeds: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """transformers' own, without position_ids: a token's position is its place among the real ones of its row."""
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, *args, inputs_embeds=inputs_embeds, **kwargs
        )
        inputs.pop("position_ids", None)
        return inputs

    def _prepare_cache_for_generation(
        self,
        generation_config: GenerationConfig,
        model_kwargs: dict[str, Any],
        generation_mode: Any,
        batch_size: int,
        max_cache_length: int,
    ) -> None:
        # The one place where transformers has settled how long the sequence may get, which there is no public hook for.
        super()._prepare_cache_for_generation(
            generation_config, model_kwargs, generation_mode, batch_size, max_cache_length
        )
        self._require_room(max_cache_length, generation_config.max_new_tokens)
        if generation_config.use_cache is not False and model_kwargs.get("past_key_values") is None:
            model_kwargs["past_key_values"] = ReformerCache(max_len=max_cache_length)

    def _require_room(self, n_inputs: int, new_tokens: int | None) -> None:
        # The last token is never an input.
        longest = self.config.max_position_embeddings
        if longest is None or n_inputs <= longest:
            return
        fix = f"set a max_length of at most {longest + 1}"
        if new_tokens is not None:
            room = longest + new_tokens - n_inputs
            fix = f"ask for at most max_new_tokens={room}" if room > 0 else "shorten the prompt"
        raise ValueError(
            f"prompt and new tokens make {n_inputs + 1} tokens, of which {n_inputs} are inputs: beyond the model's longest "
            f"input, {longest}; {fix}"
        )

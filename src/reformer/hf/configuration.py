"""The transformers config: the fields of ``ReformerConfig`` beside transformers' own."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from reformer.models import ReformerConfig

_FIELDS = tuple(field.name for field in dataclasses.fields(ReformerConfig))


class ReformerTorchConfig(PreTrainedConfig):
    """Every field of ``reformer.models.ReformerConfig`` under its name, ``hash_seed``, and what every config has.

    Special tokens may also be the two input-only ids after the vocabulary, start and mask.
    ``hash_seed`` fixes the rotations in evaluation and generation; in training each forward pass draws its own. Names
    that tools look for (hidden_size, num_attention_heads, ..) are other names of these fields; num_hidden_layers and
    max_position_embeddings follow from them. Raises ValueError for what ``ReformerConfig`` refuses.
    """

    model_type = "reformer-torch"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "intermediate_size": "d_ff",
        "num_attention_heads": "n_heads",
        "tie_word_embeddings": "tie_embeddings",
    }

    def __init__(
        self,
        *,
        hash_seed: int = 0,
        pad_token_id: int | None = None,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        num_hidden_layers: int | None = None,
        **kwargs: Any,
    ) -> None:
        for theirs, ours in self.attribute_map.items():
            if theirs in kwargs:
                kwargs[ours] = kwargs.pop(theirs)
        given = {name: _hashable(kwargs.pop(name)) for name in _FIELDS if name in kwargs}
        for name, value in dataclasses.asdict(ReformerConfig(**given)).items():
            setattr(self, name, value)
        if num_hidden_layers not in (None, self.num_hidden_layers):
            raise ValueError(
                f"num_hidden_layers={num_hidden_layers} differs from the {self.num_hidden_layers} layers of attention="
                f"{self.attention}; name as many layers there, or drop num_hidden_layers"
            )
        self.hash_seed = hash_seed
        super().__init__(**kwargs)
        # After transformers' own check, which does not know the two input-only ids.
        self.pad_token_id, self.bos_token_id, self.eos_token_id = pad_token_id, bos_token_id, eos_token_id
        self.validate()

    @classmethod
    def from_reformer(cls, config: ReformerConfig, **changes: Any) -> ReformerTorchConfig:
        """The same model as a transformers config; ``changes``: transformers' own fields, for example num_labels."""
        return cls(**dataclasses.asdict(config), **changes)

    def to_reformer(self) -> ReformerConfig:
        """The model it describes. Raises ValueError if a field was set to what ``ReformerConfig`` refuses."""
        return ReformerConfig(**{name: _hashable(getattr(self, name)) for name in _FIELDS})

    def validate(self) -> None:
        """Raise ValueError if a field was set to what the model refuses; in place of transformers' own checks."""
        self.to_reformer()
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            value = getattr(self, name)
            if isinstance(value, int) and not 0 <= value < self.vocab_size + 2:
                raise ValueError(
                    f"{name} must be below vocab_size + 2 = {self.vocab_size + 2} (the last two are the start and the "
                    f"mask token), got {value}"
                )

    @property
    def num_hidden_layers(self) -> int:
        """As many as ``attention`` names."""
        return len(self.attention)

    @property
    def max_position_embeddings(self) -> int | None:
        """The longest input; None: any."""
        return self.to_reformer().longest_input


def _hashable(value: Any) -> Any:
    # JSON gives lists where the frozen config has tuples.
    return tuple(value) if isinstance(value, list) else value

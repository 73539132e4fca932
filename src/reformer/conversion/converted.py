"""What a conversion gives: a config, its weights, and how its ids are read as text."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from reformer.models import ReformerConfig, ReformerLM


class ConversionError(ValueError):
    """A model that cannot be converted as it is; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """How text becomes ids: "bytes" (byte + ``offset``), "sentencepiece" (``file``), or "ids" (nobody knows)."""

    kind: str
    offset: int = 0
    file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A model in our terms; ``weights`` fit ``ReformerLM(config)`` name by name."""

    config: ReformerConfig
    weights: Mapping[str, Tensor]
    text: TextFormat

    def model(self) -> ReformerLM:
        """The model, in evaluation mode, in the dtype of its weights."""
        with torch.device("meta"):
            model = ReformerLM(self.config)
        model.load_state_dict(dict(self.weights), assign=True)
        return model.requires_grad_(True).eval()

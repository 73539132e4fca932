"""Tiny models under their transformers names, and what their inputs look like."""

import torch
from tests.models.factory import tiny
from torch import Tensor

from reformer.hf import (
    ReformerTorchForCausalLM,
    ReformerTorchForMaskedLM,
    ReformerTorchForQuestionAnswering,
    ReformerTorchForSequenceClassification,
    ReformerTorchForTokenClassification,
    ReformerTorchModel,
)

CAUSAL = (
    ReformerTorchModel,
    ReformerTorchForCausalLM,
    ReformerTorchForSequenceClassification,
    ReformerTorchForTokenClassification,
    ReformerTorchForQuestionAnswering,
)
BIDIRECTIONAL = tuple(ReformerTorchForMaskedLM if kind is ReformerTorchForCausalLM else kind for kind in CAUSAL)
ALL = [(kind, True) for kind in CAUSAL] + [(kind, False) for kind in BIDIRECTIONAL]
IDS = [f"{kind.__name__.removeprefix('ReformerTorch')}-{'causal' if causal else 'both'}" for kind, causal in ALL]


def wrapped(kind, causal: bool = True, **changes):
    """A model of class ``kind``, in evaluation mode and float64, whose parameters all matter."""
    model = kind.from_reformer(tiny(causal=causal, **{"pattern": "bucket", **changes}).eval(), num_labels=3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("classifier"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def padded(tokens: Tensor, left: int, right: int, seed: int = 5) -> tuple[Tensor, Tensor]:
    """(ids, attention_mask): ``tokens`` [B, L] between columns of padding, which hold arbitrary ids."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 11, (tokens.shape[0], left + tokens.shape[1] + right), generator=generator)
    mask = torch.zeros_like(ids)
    ids[:, left : left + tokens.shape[1]] = tokens
    mask[:, left : left + tokens.shape[1]] = 1
    return ids, mask


def outputs(model, ids: Tensor, mask: Tensor | None, left: int, length: int) -> list[Tensor]:
    """What the model says of the real tokens: per token where it has an output for each, else whole."""
    found = model(input_ids=ids, attention_mask=mask)
    return [
        value[:, left : left + length] if value.dim() > 1 and value.shape[1] == ids.shape[1] else value
        for value in found.values()
    ]

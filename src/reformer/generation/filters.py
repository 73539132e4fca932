"""From logits to the probabilities that are sampled: repetition penalty, temperature, top-k, top-p, min-p."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How a token is drawn; filters apply in the order temperature, top-k, top-p, min-p."""

    temperature: float = 1.0
    """Logits are divided by it; 0: always the likeliest token."""
    top_k: int | None = None
    """Only the k likeliest tokens."""
    top_p: float | None = None
    """Only the smallest set of likeliest tokens whose probability reaches p."""
    min_p: float | None = None
    """Only tokens at least this fraction as likely as the likeliest."""
    repetition_penalty: float = 1.0
    """Before all these: above 1 makes what the row already holds, prompt included, less likely (``penalise_repetition``)."""

    def __post_init__(self) -> None:
        if not self.temperature >= 0.0:
            raise ValueError(f"temperature must be at least 0, got {self.temperature}")
        if not self.repetition_penalty > 0.0:
            raise ValueError(f"repetition_penalty must be above 0, got {self.repetition_penalty}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value <= 1.0:
                raise ValueError(f"{name} must be in (0, 1], got {value}")


# A float32 that is not 0. Nothing tells colder ones apart.
_COLDEST = 1e-30


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """``logits`` [..., V], where ``seen`` [..., V] the positive over ``penalty`` and the negative times it.

    Keskar et al. 2019, section 4.1, with the negative turned downwards too, as is usual since.
    """
    return torch.where(seen, torch.where(logits > 0.0, logits / penalty, logits * penalty), logits)


def next_token_probabilities(logits: Tensor, sampling: SamplingConfig) -> Tensor:
    """Probabilities [..., V] (float32) of the next token from ``logits`` [..., V], 0 for what the filters remove."""
    logits = logits.float()
    if sampling.temperature == 0.0:
        return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    # Of differences from the likeliest no quotient is infinity less infinity, however cold it is.
    relative = logits - logits.amax(-1, keepdim=True)
    probabilities = torch.softmax(relative / max(sampling.temperature, _COLDEST), dim=-1)
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        kept = torch.topk(probabilities, sampling.top_k, dim=-1)
        probabilities = _renormalise(torch.zeros_like(probabilities).scatter_(-1, kept.indices, kept.values))
    if sampling.top_p is not None:
        ordered, index = torch.sort(probabilities, dim=-1, descending=True, stable=True)
        # A token stays if what is likelier does not reach p by itself; the likeliest always does.
        before = ordered.cumsum(-1) - ordered
        ordered = ordered.masked_fill(before >= sampling.top_p, 0.0)
        probabilities = _renormalise(torch.zeros_like(probabilities).scatter_(-1, index, ordered))
    if sampling.min_p is not None:
        floor = sampling.min_p * probabilities.amax(-1, keepdim=True)
        probabilities = _renormalise(probabilities.masked_fill(probabilities < floor, 0.0))
    return probabilities


def _renormalise(probabilities: Tensor) -> Tensor:
    return probabilities / probabilities.sum(-1, keepdim=True)

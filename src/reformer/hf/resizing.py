"""Another vocabulary for a model that has one: which rows stay, which move and what new ones hold."""

import dataclasses

import torch
from torch import Tensor, nn

from reformer.models import ReformerTrunk
from reformer.models.head import TiedHead

_INPUT_ONLY = 2


def resize_vocabulary(trunk: ReformerTrunk, head: nn.Linear | TiedHead | None, vocab_size: int, *, mean: bool) -> None:
    """Give ``trunk`` and ``head`` (None: there is none) ``vocab_size`` predicted tokens, in place.

    Tokens keep their rows, and start and mask their two after them. New rows are the mean of the old tokens' (``mean``),
    or drawn as at the start. Raises ValueError for a size below 1.
    """
    config = dataclasses.replace(trunk.config, vocab_size=vocab_size)
    old, before = trunk.embedding.weight, trunk.config.vocab_size
    rows = _resized(old[:before], vocab_size, None if mean else config.embedding_std)
    embedding = nn.Embedding(vocab_size + _INPUT_ONLY, config.d_model, _weight=torch.cat([rows, old[before:].detach()]))
    embedding.weight.requires_grad_(old.requires_grad)
    trunk.embedding, trunk.config = embedding, config
    if head is None:
        return
    if isinstance(head, nn.Linear):
        head.out_features = vocab_size
        # The spread of Xavier's uniform numbers, from which the head started.
        spread = (2.0 / (head.in_features + vocab_size)) ** 0.5
        _replace(head, "weight", _resized(head.weight, vocab_size, None if mean else spread))
    _replace(head, "bias", _resized(head.bias, vocab_size, None if mean else 0.0))


@torch.no_grad()
def _resized(old: Tensor, n_rows: int, std: float | None) -> Tensor:
    """The first rows of ``old``, then new ones: the old rows' mean (``std`` None), or normal numbers."""
    missing = max(0, n_rows - old.shape[0])
    new = old.mean(0, keepdim=True).repeat(missing, *[1] * (old.dim() - 1))
    if std is not None:
        new.normal_(std=std)
    return torch.cat([old[:n_rows], new])


def _replace(module: nn.Module, name: str, value: Tensor) -> None:
    setattr(module, name, nn.Parameter(value, requires_grad=getattr(module, name).requires_grad))

"""Another vocabulary for a model that has one: every id keeps its row, start and mask stay the two after the last one."""

import dataclasses

import torch
from torch import Tensor, nn

from reformer.models import ReformerTrunk
from reformer.models.head import TiedHead

_INPUT_ONLY = 2


def resize_vocabulary(trunk: ReformerTrunk, head: nn.Linear | TiedHead | None, vocab_size: int, *, mean: bool) -> None:
    """Give ``trunk`` and ``head`` (None: there is none) ``vocab_size`` predicted tokens, in place.

    Ids keep their rows, those of start and mask too, which a tokenizer may know; copies of these two come after the new
    vocabulary. New rows are the mean of the old vocabulary's (``mean``), or drawn as at the start.
    Raises ValueError for a size below 1.
    """
    before = trunk.config.vocab_size
    config = dataclasses.replace(trunk.config, vocab_size=vocab_size)
    old = trunk.embedding.weight.detach()
    rows = _resized(old, vocab_size, old[:before].mean(0) if mean else config.embedding_std)
    trunk.embedding = nn.Embedding(
        vocab_size + _INPUT_ONLY, config.d_model, _weight=torch.cat([rows, old[before:]])
    ).requires_grad_(trunk.embedding.weight.requires_grad)
    trunk.config = config
    if head is None:
        return
    if isinstance(head, nn.Linear):
        # The spread of Xavier's uniform numbers, from which the head started.
        spread = (2.0 / (head.in_features + vocab_size)) ** 0.5
        _replace(head, "weight", _resized(head.weight.detach(), vocab_size, head.weight.mean(0) if mean else spread))
        head.out_features = vocab_size
    _replace(head, "bias", _resized(head.bias.detach(), vocab_size, head.bias.mean() if mean else 0.0))


@torch.no_grad()
def _resized(old: Tensor, n_rows: int, new: Tensor | float) -> Tensor:
    """The first ``n_rows`` of ``old``; those it lacks are ``new``, or normal numbers of that standard deviation."""
    missing = old.new_empty(max(0, n_rows - old.shape[0]), *old.shape[1:])
    filled = missing.normal_(std=new) if isinstance(new, float) else missing.copy_(new.expand_as(missing))
    return torch.cat([old[:n_rows], filled])


def _replace(module: nn.Module, name: str, value: Tensor) -> None:
    setattr(module, name, nn.Parameter(value, requires_grad=getattr(module, name).requires_grad))

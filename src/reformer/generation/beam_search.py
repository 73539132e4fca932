"""Beam search: the continuations of highest probability, length-normalised; deterministic.

B prompts, T tokens of each, V vocabulary.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reformer.generation.protocol import Decoder, State, Stopping


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A continuation and its log-probability in nats."""

    tokens: tuple[int, ...] = ()
    log_probability: float = 0.0
    tail: bytes = field(default=b"", repr=False)
    """See ``Stopping``."""

    def score(self, alpha: float) -> float:
        """Log-probability over the length penalty ((5 + length) / 6)^alpha (Wu et al. 2016, section 7)."""
        return self.log_probability / _length_penalty(len(self.tokens), alpha)


def search_beams(
    decoder: Decoder,
    state: State,
    tokens: Tensor,
    n_tokens: Sequence[int],
    *,
    segment_ids: Tensor | None = None,
    num_beams: int,
    alpha: float = 0.0,
    stopping: Stopping,
) -> list[list[Hypothesis]]:
    """Of each of the prompts ``tokens`` [B, T] its ``num_beams`` best continuations, best first.

    A continuation ends with a stop string, or has ``n_tokens[b]`` tokens (0: none). One beam is greedy search, whatever
    ``alpha``. Of equals the one of the better parent, then of the lower token, goes first. With as many beams as there are
    beginnings the result is that of trying everything. ``segment_ids`` [B, T]: negative is padding, which stands on the
    left. The beams of all prompts are rows of one batch, which shrinks as prompts come to their end.
    Raises ValueError for ``num_beams`` below 1, a negative ``alpha``, other than B limits, and logits that are NaN.
    """
    if num_beams < 1:
        raise ValueError(f"num_beams must be at least 1, got {num_beams}")
    if not alpha >= 0.0:
        raise ValueError(f"the length penalty alpha must be at least 0, got {alpha}")
    if len(n_tokens) != tokens.shape[0]:
        raise ValueError(f"n_tokens must be one number for each of the {tokens.shape[0]} prompts, got {len(n_tokens)}")
    searches = [_Search(limit, num_beams, alpha, stopping) for limit in n_tokens]
    going_on = [search for search in searches if search.live]
    if 0 < len(going_on) < len(searches):
        live = torch.tensor([row for row, search in enumerate(searches) if search.live], device=tokens.device)
        state.reorder(live)
        tokens, segment_ids = tokens[live], None if segment_ids is None else segment_ids[live]
    while going_on:
        with torch.no_grad():
            logits = decoder.decode(tokens, state, segment_ids, last_only=True)[:, -1]
        segment_ids = None
        # In double, and on the CPU: so that sums over a text round alike wherever it is decoded.
        log_p = torch.log_softmax(logits.double(), dim=-1).cpu()
        if log_p.isnan().any():
            raise ValueError("the model's logits are not numbers (NaN): it has diverged; take an earlier checkpoint")
        rows: list[int] = []
        first = 0
        for search in going_on:
            n_rows = len(search.live)
            parents = search.extend(log_p[first : first + n_rows])
            rows += [first + parent for parent in parents]
            first += n_rows
        going_on = [search for search in going_on if search.live]
        if going_on:
            state.reorder(torch.tensor(rows, device=tokens.device))
            last = [[h.tokens[-1]] for search in going_on for h in search.live]
            tokens = torch.tensor(last, device=tokens.device)
    return [search.finished for search in searches]


class _Search:
    """The beams of one prompt: those that go on (``live``), and the best that have ended (``finished``)."""

    def __init__(self, n_tokens: int, num_beams: int, alpha: float, stopping: Stopping) -> None:
        self.n_tokens, self.num_beams, self.stopping = n_tokens, num_beams, stopping
        # One beam is greedy search: it ends with its likeliest token, however well a longer text might be normalised.
        self.alpha = alpha if num_beams > 1 else 0.0
        self.live = [Hypothesis()] if n_tokens > 0 else []
        self.finished: list[Hypothesis] = []

    def extend(self, log_p: Tensor) -> list[int]:
        """Take the log-probabilities [len(live), V] of the next tokens; of each beam that now goes on, its parent."""
        is_last = len(self.live[0].tokens) + 1 == self.n_tokens
        live, parents, ended = _extend(self.live, log_p, self.num_beams, self.stopping, is_last=is_last)
        by_score = sorted([*self.finished, *ended], key=lambda h: -h.score(self.alpha))
        self.finished, self.live = by_score[: self.num_beams], live
        if live and len(self.finished) == self.num_beams:
            # Log-probabilities only fall, and no length penalty is larger than that of the greatest length.
            bound = live[0].log_probability / _length_penalty(self.n_tokens, self.alpha)
            if self.finished[-1].score(self.alpha) >= bound:
                self.live, parents = [], []
        return parents


def _extend(
    live: list[Hypothesis], log_p: Tensor, num_beams: int, stopping: Stopping, *, is_last: bool
) -> tuple[list[Hypothesis], list[int], list[Hypothesis]]:
    """The best ``num_beams`` that go on, the rows of their parents, and those that end on the way to them."""
    totals = torch.tensor([h.log_probability for h in live], dtype=torch.float64)[:, None] + log_p
    going_on: list[Hypothesis] = []
    parents: list[int] = []
    ended: list[Hypothesis] = []
    for value, index in _best_first(totals.flatten(), 2 * num_beams):
        if len(going_on if not is_last else ended) == num_beams or value == float("-inf"):
            break
        parent, token = divmod(index, log_p.shape[1])
        tail, is_over = stopping.follow(live[parent].tail, token)
        extended = Hypothesis(tokens=(*live[parent].tokens, token), log_probability=value, tail=tail)
        if is_over or is_last:
            ended.append(extended)
        else:
            going_on.append(extended)
            parents.append(parent)
    return going_on, parents, ended


def _best_first(values: Tensor, n_soon: int) -> Iterator[tuple[float, int]]:
    """(value, index) by falling value, equals by index. Of a large vocabulary few are looked at, so few are sorted."""
    least = torch.topk(values, min(n_soon, len(values))).values[-1]
    for candidates in (torch.nonzero(values >= least)[:, 0], torch.nonzero(values < least)[:, 0]):
        ordered, order = torch.sort(values[candidates], descending=True, stable=True)
        yield from zip(ordered.tolist(), candidates[order].tolist())


def _length_penalty(length: int, alpha: float) -> float:
    return math.pow((5.0 + length) / 6.0, alpha)

"""Beam search: the continuations of highest probability, length-normalised; deterministic."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from reformer.generation.protocol import Decoder, State
from reformer.generation.stopping import Stopping


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
    n_tokens: int,
    *,
    num_beams: int,
    alpha: float = 0.0,
    stopping: Stopping,
) -> list[Hypothesis]:
    """The ``num_beams`` best continuations of one prompt ``tokens`` [1, T], best first, that end with a stop string or have
    ``n_tokens`` tokens.

    Of equals the one of the better parent, then of the lower token, goes first. With as many beams as there are beginnings
    the result is that of trying everything. Raises ValueError for ``num_beams`` below 1 or a negative ``alpha``.
    """
    if num_beams < 1:
        raise ValueError(f"num_beams must be at least 1, got {num_beams}")
    if not alpha >= 0.0:
        raise ValueError(f"the length penalty alpha must be at least 0, got {alpha}")
    live: list[Hypothesis] = [Hypothesis()]
    finished: list[Hypothesis] = []
    for step in range(1, n_tokens + 1):
        with torch.no_grad():
            logits = decoder.decode(tokens, state, last_only=True)[:, -1]
        live, parents, ended = _extend(live, logits, num_beams, stopping, is_last=step == n_tokens)
        finished = sorted([*finished, *ended], key=lambda h: -h.score(alpha))[:num_beams]
        if not live or (len(finished) == num_beams and finished[-1].score(alpha) >= _bound(live, n_tokens, alpha)):
            break
        state.reorder(torch.tensor(parents, device=tokens.device))
        tokens = torch.tensor([[h.tokens[-1]] for h in live], device=tokens.device)
    return finished


def _extend(
    live: list[Hypothesis], logits: Tensor, num_beams: int, stopping: Stopping, *, is_last: bool
) -> tuple[list[Hypothesis], list[int], list[Hypothesis]]:
    """The best ``num_beams`` that go on, the rows of their parents, and those that end on the way to them."""
    log_p = torch.log_softmax(logits.double(), dim=-1).cpu()
    totals = torch.tensor([h.log_probability for h in live], dtype=torch.float64)[:, None] + log_p
    going_on: list[Hypothesis] = []
    parents: list[int] = []
    ended: list[Hypothesis] = []
    values, order = torch.sort(totals.flatten(), descending=True, stable=True)
    for value, index in zip(values.tolist(), order.tolist()):
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


def _bound(live: list[Hypothesis], n_tokens: int, alpha: float) -> float:
    # Log-probabilities only fall, and no length penalty is larger than that of the greatest length.
    return live[0].log_probability / _length_penalty(n_tokens, alpha)


def _length_penalty(length: int, alpha: float) -> float:
    return ((5.0 + length) / 6.0) ** alpha

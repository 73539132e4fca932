"""Translations by beam search, over cached decoding: of an encoder-decoder, or of a language model.

B sentences, S source length.
"""

from collections.abc import Sequence

import torch

from reformer.generation.beam_search import Hypothesis, search_beams
from reformer.generation.protocol import Stopping
from reformer.generation.text import pad, start_rows
from reformer.models import ReformerEncoderDecoder, ReformerLM
from reformer.ops.checks import require_at_least


def translate(
    model: ReformerEncoderDecoder,
    sources: Sequence[Sequence[int]],
    *,
    end_id: int,
    num_beams: int = 4,
    alpha: float = 0.6,
    extra_tokens: int = 50,
    seed: int = 0,
) -> list[list[Hypothesis]]:
    """Of each source its ``num_beams`` best translations, best first, decoded as one batch.

    A translation ends with ``end_id``, which it holds, or has as many tokens as its source and ``extra_tokens`` more, up to
    the model's longest input (Vaswani et al. 2017, section 6.1: beam 4, alpha 0.6, 50 more). ``num_beams=1`` is greedy.
    A row's result is the same, to rounding, whatever the others, unless LSH layers of the decoder choose their number of
    buckets themselves (``n_buckets=None``): they take that of the longest row. Raises ValueError for no or an empty source.
    """
    _check(sources, extra_tokens)
    longest = model.config.longest_input
    limits = [len(source) + extra_tokens for source in sources]
    if longest is not None:
        limits = [min(limit, longest) for limit in limits]
    device = model.norm.weight.device
    source, segment_ids = pad(sources, device)
    state = model.decoding_state(source, source_segment_ids=segment_ids, max_len=max(limits), seed=seed)
    start = torch.full((len(sources), 1), model.config.start_id, dtype=torch.int64, device=device)
    stopping = _ending_at(end_id)
    return search_beams(model, state, start, limits, num_beams=num_beams, alpha=alpha, stopping=stopping)


def translate_packed(
    model: ReformerLM,
    sources: Sequence[Sequence[int]],
    *,
    end_id: int,
    num_beams: int = 4,
    alpha: float = 0.6,
    extra_tokens: int = 50,
    seed: int = 0,
) -> list[list[Hypothesis]]:
    """``translate`` by a causal language model that was trained on sources followed by their targets.

    Raises ValueError also for a source that leaves no room for a translation in the model's longest input.
    """
    _check(sources, extra_tokens)
    longest = model.config.longest_input
    limits = [len(source) + extra_tokens for source in sources]
    if longest is not None:
        # The start token is one more, and the last token of a translation is not read: one less.
        limits = [min(limit, longest - len(source)) for limit, source in zip(limits, sources)]
        if min(limits) < 1:
            raise ValueError(
                f"a source of {max(map(len, sources))} tokens leaves no room for its translation in the model's longest "
                f"input of {longest} (max_len); leave it out, or train with a greater one"
            )
        if len(sources) > 1 and max(map(len, sources)) + max(limits) > longest:
            # Prompts of a batch are padded to the longest of them: these do not fit side by side.
            options = {"end_id": end_id, "num_beams": num_beams, "extra_tokens": extra_tokens, "seed": seed}
            return [translate_packed(model, [source], alpha=alpha, **options)[0] for source in sources]
    tokens, segment_ids, state = start_rows(model, sources, max(limits), seed, None)
    return search_beams(
        model,
        state,
        tokens,
        limits,
        segment_ids=segment_ids,
        num_beams=num_beams,
        alpha=alpha,
        stopping=_ending_at(end_id),
    )


def _check(sources: Sequence[Sequence[int]], extra_tokens: int) -> None:
    require_at_least("extra_tokens", extra_tokens, 0)
    if not sources or min(map(len, sources)) < 1:
        raise ValueError("every source must have at least one token, its end token if nothing else")


def _ending_at(end_id: int) -> Stopping:
    """A text is over with this token."""
    return Stopping((b"e",), lambda token: b"e" if token == end_id else b".")

"""BLEU of a run that translates, of each set of a split, beside the control with shuffled sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reformer.data.pairs.corpus import PairCorpus
from reformer.data.pairs.vocabulary import END_ID, Vocabulary
from reformer.evaluation.bleu import bleu, shuffled_source_bleu
from reformer.generation import Hypothesis, translate, translate_packed
from reformer.models import ReformerLM
from reformer.tasks.config import EvalOptions
from reformer.tasks.protocol import Evaluated, Measurement, Model, ProgressReport, silent


@dataclass(frozen=True, kw_only=True)
class TranslationEvalOptions(EvalOptions):
    """What to translate, and how: BLEU with signatures, beside the control with shuffled sources."""

    splits: tuple[str, ...] = ("test",)
    limit: int = 100_000
    """First pairs of each set of a split."""
    num_beams: tuple[int, ...] = (1, 4)
    """Beams; 1 is greedy."""
    alpha: float = 0.6
    """Exponent of the length penalty."""


@dataclass(frozen=True, kw_only=True)
class TranslateOptions:
    """How to translate."""

    num_beams: int = 4
    """Beams; 1 is greedy."""
    alpha: float = 0.6
    """Exponent of the length penalty."""


@dataclass(frozen=True, kw_only=True)
class BeamOptions(TranslateOptions):
    """How translations are searched for (Vaswani et al. 2017: 4 beams, alpha 0.6, 50 tokens more than the source)."""

    extra_tokens: int = 50
    sentences_at_once: int = 32

    def __str__(self) -> str:
        return f"beam {self.num_beams}, alpha {self.alpha}" if self.num_beams > 1 else "greedy"


def bleu_rows(
    pairs: PairCorpus,
    model: Model,
    split: str,
    options: BeamOptions,
    *,
    limit: int,
    train_pairs: int | None = None,
    progress: ProgressReport = silent,
) -> Iterator[Evaluated]:
    """BLEU of each set of a split, cased and uncased, of the translations and of the control.

    Of each set its first ``limit`` pairs, and none of the others, whatever their length; of the training split at most its
    first ``train_pairs``. Extra "score": the mean of the best hypotheses' length-normalised log-probabilities.
    """
    text = pairs.text(split)
    n = pairs.corpus.card["splits"][split].get("left_out", 0)
    left_out = f" ({n:,} of {split} left out, which have an empty side)" if n else ""
    for one in pairs.sets(split):
        end = one.last if split != "train" or train_pairs is None else min(one.last, train_pairs)
        last = min(end, one.first + limit)
        if one.first >= last:
            continue
        hypotheses, score = translations(pairs, model, split, range(one.first, last), options, progress)
        references = [target for _, target in text[one.first : last]]
        which = "all" if last == end else f"the first {last - one.first:,}"
        of = f"{which} of the {end - one.first:,} pairs of {one.name}{left_out}"
        protocol = f"{of}, at most {options.extra_tokens} tokens more than the source"
        extra = {"score": score}
        for variant, scores, extras in (
            (str(options), bleu(hypotheses, references), extra),
            (f"{options}, sources shuffled", shuffled_source_bleu(hypotheses, references), {}),
        ):
            for found in scores:
                measurement = Measurement(
                    metric=found.metric,
                    value=found.percent,
                    n=last - one.first,
                    unit="pairs",
                    protocol=protocol,
                    extras={"signature": found.signature, **extras},
                )
                yield Evaluated(split=f"{split}/{one.name}", variant=variant, measurement=measurement)


def translations(
    pairs: PairCorpus,
    model: Model,
    split: str,
    rows: range,
    options: BeamOptions,
    progress: ProgressReport = silent,
) -> tuple[list[str], float]:
    """(the text of the best translation of each of these pairs' sources, the mean of their scores)."""
    sources, _ = pairs.sentences(split)
    found = best_translations(model, [sources[row].tolist() for row in rows], options, progress)
    vocabulary = pairs.vocabulary
    scores = [best.score(options.alpha) for best in found]
    return [vocabulary.decode(best.tokens) for best in found], sum(scores) / max(1, len(scores))


def best_translations(
    model: Model,
    sources: Sequence[list[int]],
    options: BeamOptions,
    progress: ProgressReport = silent,
) -> list[Hypothesis]:
    """The best translation of each of ``sources``; a language model reads them packed."""
    # Like lengths together: less padding, and rows that end at about the same time.
    order = sorted(range(len(sources)), key=lambda row: len(sources[row]))
    found: dict[int, Hypothesis] = {}
    search: Any = translate_packed if isinstance(model, ReformerLM) else translate
    for first in range(0, len(order), options.sentences_at_once):
        part = order[first : first + options.sentences_at_once]
        best = search(
            model,
            [sources[row] for row in part],
            end_id=END_ID,
            num_beams=options.num_beams,
            alpha=options.alpha,
            extra_tokens=options.extra_tokens,
        )
        found |= {row: hypotheses[0] for row, hypotheses in zip(part, best)}
        progress(len(found), len(order))
    return [found[row] for row in range(len(sources))]


def translated_lines(
    model: Model,
    prompt: bytes,
    options: TranslateOptions,
    open_vocabulary: Callable[[], Vocabulary],
) -> Iterator[bytes]:
    """A line of UTF-8 for each line of ``prompt``, its translation; an empty one stays empty.

    Raises ValueError, before anything is translated, for a prompt that is not UTF-8 or has no sentence.
    """
    try:
        lines = [line.rstrip("\r") for line in prompt.decode().removesuffix("\n").split("\n")]
    except UnicodeDecodeError as error:
        raise ValueError(f"--prompt must be UTF-8 text, got byte {prompt[error.start]:#04x} at {error.start}") from None
    wanted = [row for row, line in enumerate(lines) if line.strip()]
    if not wanted:
        raise ValueError(
            "this run translates: give sentences, one a line, as --prompt TEXT or --prompt - (standard input)"
        )
    vocabulary = open_vocabulary()
    sources = [ids.tolist() for ids in vocabulary.encode([lines[row] for row in wanted])]
    beams = BeamOptions(num_beams=options.num_beams, alpha=options.alpha)
    found = best_translations(model, sources, beams)
    texts = {row: vocabulary.decode(best.tokens) for row, best in zip(wanted, found)}
    # A translation is one line of the output, whatever the model makes of it.
    return ((" ".join(texts.get(row, "").split()) + "\n").encode() for row in range(len(lines)))

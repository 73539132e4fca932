"""BLEU of a run that translates, of each set of a split, beside the control with shuffled sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reformer.data.pairs import END_ID, PairSet
from reformer.evaluation import bleu, shuffled_source_bleu
from reformer.generation import Hypothesis, translate, translate_packed
from reformer.training.models import Model
from reformer.training.translation_config import PackedTranslationConfig, TranslationConfig
from reformer.training.translation_task import TranslationTask


@dataclass(frozen=True, kw_only=True)
class BeamOptions:
    """How translations are searched for (Vaswani et al. 2017: 4 beams, alpha 0.6, 50 tokens more than the source)."""

    num_beams: int = 4
    alpha: float = 0.6
    extra_tokens: int = 50
    sentences_at_once: int = 32

    def __str__(self) -> str:
        return f"beam {self.num_beams}, alpha {self.alpha}" if self.num_beams > 1 else "greedy"


def bleu_rows(
    task: TranslationTask,
    model: Model,
    split: str,
    options: BeamOptions,
    *,
    limit: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[dict[str, Any]]:
    """Rows {"split", "attention" (the search), "metric", "value", "signature", "protocol"} of each set of a split.

    Of each set its first ``limit`` pairs, and none of the others, whatever their length. "score": the mean of the best
    hypotheses' length-normalised log-probabilities.
    """
    text = task.pairs.text(split)
    for one in _sets(task, split):
        last = min(one.last, one.first + limit)
        if one.first == last:
            continue
        hypotheses, score = translations(task, model, split, range(one.first, last), options, progress)
        references = [target for _, target in text[one.first : last]]
        which = "all" if last == one.last else f"the first {last - one.first:,}"
        of = f"{which} of the {one.last - one.first:,} pairs of {one.name}{_left_out(task, split)}"
        protocol = f"{of}, at most {options.extra_tokens} tokens more than the source"
        common = {"split": f"{split}/{one.name}", "n_pairs": last - one.first, "protocol": protocol}
        for row in bleu(hypotheses, references):
            yield {**common, "attention": str(options), **row, "score": score}
        for row in shuffled_source_bleu(hypotheses, references):
            yield {**common, "attention": f"{options}, sources shuffled", **row}


def translations(
    task: TranslationTask,
    model: Model,
    split: str,
    rows: range,
    options: BeamOptions,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[str], float]:
    """(the text of the best translation of each of these pairs' sources, the mean of their scores)."""
    sources, _ = task.pairs.sentences(split)
    found = best_translations(task.config, model, [sources[row].tolist() for row in rows], options, progress)
    vocabulary = task.pairs.vocabulary
    scores = [best.score(options.alpha) for best in found]
    return [vocabulary.decode(best.tokens) for best in found], sum(scores) / max(1, len(scores))


def best_translations(
    config: TranslationConfig,
    model: Model,
    sources: Sequence[list[int]],
    options: BeamOptions,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Hypothesis]:
    """The best translation of each of ``sources`` by a model that was trained as ``config`` says."""
    # Like lengths together: less padding, and rows that end at about the same time.
    order = sorted(range(len(sources)), key=lambda row: len(sources[row]))
    found: dict[int, Hypothesis] = {}
    search: Any = translate_packed if isinstance(config, PackedTranslationConfig) else translate
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


def _left_out(task: TranslationTask, split: str) -> str:
    n = task.pairs.corpus.card["splits"][split].get("left_out", 0)
    return f" ({n:,} of {split} left out, which have an empty side)" if n else ""


def _sets(task: TranslationTask, split: str) -> list[PairSet]:
    n = task.config.train_pairs
    if split != "train" or n is None:
        return task.pairs.sets(split)
    return [one._replace(last=min(one.last, n)) for one in task.pairs.sets(split) if one.first < n]

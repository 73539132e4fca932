"""BLEU of translations by sacreBLEU (Post 2018), cased and uncased, with the signatures that say how it was counted."""

from collections.abc import Sequence
from typing import NamedTuple


class Bleu(NamedTuple):
    """A BLEU score in percent, and the signature that says how it was counted."""

    metric: str
    percent: float
    signature: str


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> list[Bleu]:
    """Scores "BLEU cased" and "BLEU uncased" of detokenised text.

    Raises ValueError for no sentences, or not as many hypotheses as references.
    """
    if len(hypotheses) != len(references) or not references:
        raise ValueError(
            f"expected as many hypotheses as references, at least one, got {len(hypotheses)} and {len(references)}"
        )
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise ValueError("BLEU needs the sacrebleu package: pip install 'reformer-torch[translation]'") from error
    found = []
    for name, lowercase in (("BLEU cased", False), ("BLEU uncased", True)):
        metric = BLEU(lowercase=lowercase)
        score = metric.corpus_score(list(hypotheses), [list(references)])
        found.append(Bleu(name, score.score, str(metric.get_signature())))
    return found


def shuffled_source_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> list[Bleu]:
    """``bleu`` of a control: every reference beside the translation of a source half the set away.

    It is what fluent text of this kind scores that was made without looking at the right source. Rows are translated
    independently, so the translations of shuffled sources are the translations, shuffled.
    """
    half = max(1, len(hypotheses) // 2)
    return bleu([*hypotheses[half:], *hypotheses[:half]], references)

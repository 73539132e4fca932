"""BLEU of translations by sacreBLEU (Post 2018), cased and uncased, with the signatures that say how it was counted."""

from collections.abc import Sequence
from typing import Any


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> list[dict[str, Any]]:
    """[{"metric", "value", "signature"}] of detokenised text: "BLEU cased" and "BLEU uncased", in percent.

    Raises ValueError for no sentences, or not as many hypotheses as references.
    """
    if len(hypotheses) != len(references) or not references:
        raise ValueError(
            f"expected as many hypotheses as references, at least one, got {len(hypotheses)} and {len(references)}"
        )
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise ValueError("BLEU needs the sacrebleu package: pip install 'reformer-torch[translation]'") from error
    rows = []
    for name, lowercase in (("BLEU cased", False), ("BLEU uncased", True)):
        metric = BLEU(lowercase=lowercase)
        score = metric.corpus_score(list(hypotheses), [list(references)])
        rows.append({"metric": name, "value": score.score, "signature": str(metric.get_signature())})
    return rows


def shuffled_source_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> list[dict[str, Any]]:
    """``bleu`` of a control: every reference beside the translation of a source half the set away.

    It is what fluent text of this kind scores that was made without looking at the right source. Rows are translated
    independently, so the translations of shuffled sources are the translations, shuffled.
    """
    half = max(1, len(hypotheses) // 2)
    return bleu([*hypotheses[half:], *hypotheses[:half]], references)

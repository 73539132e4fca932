"""Translation: pairs of sentences, read by an encoder-decoder or packed into one sequence; BLEU."""

from reformer.tasks.translation.evaluation import BeamOptions, TranslateOptions, TranslationEvalOptions, bleu_rows
from reformer.tasks.translation.task import PackedTranslationConfig, TranslationConfig, TranslationTask

__all__ = [
    "BeamOptions",
    "PackedTranslationConfig",
    "TranslateOptions",
    "TranslationConfig",
    "TranslationEvalOptions",
    "TranslationTask",
    "bleu_rows",
]

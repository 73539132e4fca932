"""The Reformer as a citizen of ``transformers`` (extra ``hf``): importing this registers it with the Auto classes."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from reformer.hf.accelerate import Accelerated, accelerate
from reformer.hf.cache import ReformerCache
from reformer.hf.classification import (
    ReformerTorchForQuestionAnswering,
    ReformerTorchForSequenceClassification,
    ReformerTorchForTokenClassification,
)
from reformer.hf.configuration import ReformerTorchConfig
from reformer.hf.language_models import ReformerTorchForCausalLM, ReformerTorchForMaskedLM
from reformer.hf.modeling import ReformerTorchModel
from reformer.hf.tokenization import ReformerByteTokenizer

__all__ = [
    "Accelerated",
    "ReformerByteTokenizer",
    "ReformerCache",
    "ReformerTorchConfig",
    "ReformerTorchForCausalLM",
    "ReformerTorchForMaskedLM",
    "ReformerTorchForQuestionAnswering",
    "ReformerTorchForSequenceClassification",
    "ReformerTorchForTokenClassification",
    "ReformerTorchModel",
    "accelerate",
]

AutoConfig.register(ReformerTorchConfig.model_type, ReformerTorchConfig, exist_ok=True)
for _auto, _model in (
    (AutoModel, ReformerTorchModel),
    (AutoModelForCausalLM, ReformerTorchForCausalLM),
    (AutoModelForMaskedLM, ReformerTorchForMaskedLM),
    (AutoModelForSequenceClassification, ReformerTorchForSequenceClassification),
    (AutoModelForTokenClassification, ReformerTorchForTokenClassification),
    (AutoModelForQuestionAnswering, ReformerTorchForQuestionAnswering),
):
    _auto.register(ReformerTorchConfig, _model, exist_ok=True)
AutoTokenizer.register(ReformerTorchConfig, tokenizer_class=ReformerByteTokenizer, exist_ok=True)

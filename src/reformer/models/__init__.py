"""Models: a frozen config and the module it describes."""

from reformer.models.config import ATTENTION_KINDS, POSITIONS, ReformerConfig
from reformer.models.decoding import DecodingState
from reformer.models.encoder_decoder import EncoderDecoderState, ReformerEncoderDecoder
from reformer.models.encoder_decoder_config import EncoderDecoderConfig
from reformer.models.language_model import ReformerLM, ReformerTrunk

__all__ = [
    "ATTENTION_KINDS",
    "POSITIONS",
    "DecodingState",
    "EncoderDecoderConfig",
    "EncoderDecoderState",
    "ReformerConfig",
    "ReformerEncoderDecoder",
    "ReformerLM",
    "ReformerTrunk",
]

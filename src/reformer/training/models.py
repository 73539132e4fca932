"""The model that a config describes."""

from reformer.models import EncoderDecoderConfig, ReformerConfig, ReformerEncoderDecoder, ReformerLM

Model = ReformerLM | ReformerEncoderDecoder


def make_model(config: ReformerConfig) -> Model:
    """A fresh model, on the CPU."""
    return ReformerEncoderDecoder(config) if isinstance(config, EncoderDecoderConfig) else ReformerLM(config)

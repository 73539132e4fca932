"""Generation: sampling from a trained model, and beam search, over cached decoding."""

from reformer.generation.beam_search import Hypothesis, search_beams
from reformer.generation.filters import SamplingConfig, next_token_probabilities, penalise_repetition
from reformer.generation.pictures import draw_pictures
from reformer.generation.protocol import Decoder, State, Stopping
from reformer.generation.sampling import sample_tokens
from reformer.generation.text import beam_search, generate, stream
from reformer.generation.translation import translate, translate_packed

__all__ = [
    "Decoder",
    "Hypothesis",
    "SamplingConfig",
    "State",
    "Stopping",
    "beam_search",
    "draw_pictures",
    "generate",
    "next_token_probabilities",
    "penalise_repetition",
    "sample_tokens",
    "search_beams",
    "stream",
    "translate",
    "translate_packed",
]

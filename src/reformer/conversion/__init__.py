"""Models of other Reformers as ours: transformers' folders and the authors' trax pickles."""

from reformer.conversion.converted import Codec, ConversionError, Converted, TextFormat, make_codec
from reformer.conversion.folder import is_transformers_folder, read_json, read_transformers_folder, text_format
from reformer.conversion.transformers_config import convert_config
from reformer.conversion.trax import read_trax_pickle
from reformer.conversion.weights import convert_weights

__all__ = [
    "Codec",
    "ConversionError",
    "Converted",
    "TextFormat",
    "convert_config",
    "convert_weights",
    "is_transformers_folder",
    "make_codec",
    "read_json",
    "read_transformers_folder",
    "read_trax_pickle",
    "text_format",
]

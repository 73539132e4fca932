"""Reading a transformers Reformer folder: config.json beside safetensors, whole or in shards, or pytorch_model.bin."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reformer.conversion.converted import ConversionError, Converted, TextFormat
from reformer.conversion.transformers_config import convert_config
from reformer.conversion.weights import convert_weights

# What byte 0 is, by vocabulary: ours, and that of the released enwik8 checkpoint, whose 0 is padding and 1 the end.
_BYTE_OFFSETS = {256: 0, 258: 2}
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def read_transformers_folder(path: Path) -> Converted:
    """The model in a folder that transformers saved.

    Raises ConversionError, in one line, for a folder that is no Reformer and for weights that do not fit its config.
    """
    path = Path(path)
    config = convert_config(read_json(path / "config.json"))
    return Converted(
        config=config, weights=convert_weights(config, _read_weights(path)), text=text_format(path, config.vocab_size)
    )


def is_transformers_folder(path: Path) -> bool:
    """Whether ``config.json`` in this folder says that it is a transformers Reformer."""
    try:
        return read_json(Path(path) / "config.json").get("model_type") == "reformer"
    except ConversionError:
        return False


def text_format(path: Path, vocab_size: int) -> TextFormat:
    """How the ids of the model in this folder are read: its tokenizer's file, or by the size of its vocabulary."""
    file = path / "spiece.model"
    if file.is_file():
        return TextFormat(kind="sentencepiece", file=file)
    if vocab_size in _BYTE_OFFSETS:
        return TextFormat(kind="bytes", offset=_BYTE_OFFSETS[vocab_size])
    return TextFormat(kind="ids")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``. Raises ConversionError if there is none."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConversionError(f"{path.parent} holds no model: {path.name} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConversionError(f"{path} cannot be read as JSON: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ConversionError(f"{path} must hold a JSON object, got {type(document).__name__}")
    return document


def _read_weights(folder: Path) -> dict[str, Tensor]:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return _read_shards(folder / name) if name.endswith(".json") else _read_file(folder / name)
    raise ConversionError(f"{folder} holds no weights: expected one of {', '.join(_WEIGHTS)}")


def _read_shards(index: Path) -> dict[str, Tensor]:
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()):
        raise ConversionError(f"{index} must name the file of every weight under 'weight_map'")
    weights: dict[str, Tensor] = {}
    for name in sorted(set(where.values())):
        if Path(name).name != name:
            raise ConversionError(f"{index} names {name!r}, which is not a file beside it")
        weights |= _read_file(index.parent / name)
    return weights


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConversionError(f"{path} is missing") from None
    except (OSError, SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConversionError(f"{path} cannot be read as weights: {first_line}") from error
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise ConversionError(f"{path} must hold named tensors and nothing else")
    return weights

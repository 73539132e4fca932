"""What a conversion gives: a config, its weights, and how its ids are read as text."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from reformer.models import ReformerConfig, ReformerLM


class ConversionError(ValueError):
    """A model that cannot be converted as it is; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """How text becomes ids: "bytes" (byte + ``offset``), "sentencepiece" (``file``), or "ids" (nobody knows)."""

    kind: str
    offset: int = 0
    file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A model in our terms; ``weights`` fit ``ReformerLM(config)`` name by name."""

    config: ReformerConfig
    weights: Mapping[str, Tensor]
    text: TextFormat

    def model(self) -> ReformerLM:
        """The model, in evaluation mode, in the dtype of its weights."""
        with torch.device("meta"):
            model = ReformerLM(self.config)
        model.load_state_dict(dict(self.weights), assign=True)
        return model.requires_grad_(True).eval()


class Codec(Protocol):
    """How a model's ids are read."""

    def encode(self, text: bytes) -> list[int]:
        """The ids of a UTF-8 text."""

    def to_bytes(self, token: int) -> bytes:
        """What an id stands for in a text; nothing for special tokens."""


def make_codec(text: TextFormat) -> Codec:
    """The codec of a format. Raises ConversionError for ids of unknown meaning, and where sentencepiece is missing."""
    if text.kind == "bytes":
        return _Bytes(text.offset)
    if text.kind == "sentencepiece":
        return _SentencePiece(str(text.file))
    raise ConversionError(
        "nothing says how this model's ids are read as text: put its tokenizer's spiece.model beside config.json"
    )


class _Bytes:
    def __init__(self, offset: int) -> None:
        self._offset = offset

    def encode(self, text: bytes) -> list[int]:
        return [byte + self._offset for byte in text]

    def to_bytes(self, token: int) -> bytes:
        return bytes([token - self._offset]) if 0 <= token - self._offset < 256 else b""


class _SentencePiece:
    _SPACE = "\u2581"

    def __init__(self, file: str) -> None:
        try:
            from sentencepiece import SentencePieceProcessor
        except ModuleNotFoundError as error:
            raise ConversionError("spiece.model needs sentencepiece: pip install 'reformer-torch[hf]'") from error
        try:
            self._processor: Any = SentencePieceProcessor(model_file=file)
        except (RuntimeError, OSError) as error:
            raise ConversionError(f"{file} cannot be read as a sentencepiece model: {error}") from error

    def encode(self, text: bytes) -> list[int]:
        ids: list[int] = self._processor.encode(text.decode("utf-8", errors="replace"))
        return ids

    def to_bytes(self, token: int) -> bytes:
        if self._processor.is_control(token):
            return b""
        if self._processor.is_unknown(token):
            return "\ufffd".encode()
        return str(self._processor.id_to_piece(token)).replace(self._SPACE, " ").encode()

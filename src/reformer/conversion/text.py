"""Text as the ids of a converted model, and back."""

from typing import Any, Protocol

from reformer.conversion.converted import ConversionError, TextFormat


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
        return self._processor.encode(text.decode("utf-8", errors="replace"))

    def to_bytes(self, token: int) -> bytes:
        if self._processor.is_control(token):
            return b""
        if self._processor.is_unknown(token):
            return "\ufffd".encode()
        return self._processor.id_to_piece(token).replace(self._SPACE, " ").encode()

"""Bytes as tokens: UTF-8 text to ids and back, with the special tokens that our byte-level models know."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import PreTrainedTokenizer

_N_BYTES = 256


class ReformerByteTokenizer(PreTrainedTokenizer):
    """A token is a byte of the text's UTF-8: byte b is id b + ``offset``. ``decode(encode(x), skip_special_tokens=True) == x``.

    Special tokens, by model:
        offset 0, causal: start (256, put before each text) and padding (257, the mask that it has no use for).
        offset 0, ``masked``: padding (256, the start that it has no use for) and mask (257, "<mask>" in a text).
        offset 2 (the released enwik8 checkpoint): padding (0) and end (1).

    Padding is on the left, where ``generate`` needs it, but for ``masked``. Bytes that are no UTF-8 decode to U+FFFD. Only
    ``masked`` finds special tokens in a text; elsewhere "<s>" is three bytes like any other.
    Raises ValueError for any other offset.
    """

    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask"]

    def __init__(self, offset: int = 0, masked: bool = False, **kwargs: Any) -> None:
        self.offset = offset
        specials = _special_tokens(offset, masked)
        for name, (token, _) in specials.items():
            kwargs.setdefault(name, token)
        self._ids = {chr(byte): byte + offset for byte in range(_N_BYTES)} | {
            str(kwargs[name]): index for name, (_, index) in specials.items()
        }
        self._tokens = {index: token for token, index in self._ids.items()}
        kwargs.setdefault("padding_side", "right" if masked else "left")
        kwargs.setdefault("split_special_tokens", not masked)
        kwargs.setdefault("clean_up_tokenization_spaces", False)
        kwargs["special_tokens_pattern"] = "bos" if "bos_token" in specials else "none"
        super().__init__(offset=offset, masked=masked, **kwargs)

    @property
    def vocab_size(self) -> int:
        """Bytes and special tokens: 258."""
        return len(self._ids)

    def get_vocab(self) -> dict[str, int]:
        """The id of each token; a byte's token is the character with its number."""
        return {**self._ids, **self.added_tokens_encoder}

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text of these tokens."""
        pieces = (token.encode("latin-1") if len(token) == 1 else token.encode() for token in tokens)
        return b"".join(pieces).decode("utf-8", errors="replace")

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Nothing: the vocabulary is the bytes."""
        return ()

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return [chr(byte) for byte in text.encode("utf-8", errors="replace")]

    def _convert_token_to_id(self, token: str) -> int | None:
        return self._ids.get(token)

    def _convert_id_to_token(self, index: int) -> str:
        return self._tokens.get(index, "")


def _special_tokens(offset: int, masked: bool) -> dict[str, tuple[str, int]]:
    if offset == 2:
        return {"pad_token": ("<pad>", 0), "eos_token": ("</s>", 1)}
    if offset != 0:
        raise ValueError(f"offset must be 0 (our models) or 2 (the released enwik8 checkpoint), got {offset}")
    if masked:
        return {"pad_token": ("<pad>", _N_BYTES), "mask_token": ("<mask>", _N_BYTES + 1)}
    return {"bos_token": ("<s>", _N_BYTES), "pad_token": ("<pad>", _N_BYTES + 1)}

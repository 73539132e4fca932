"""A vocabulary of byte-level BPE that two languages share (Sennrich et al. 2016), by the tokenizers library."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reformer.data.errors import DataError, reason

END_ID = 0
"""The token that ends a sentence; every other stands for bytes of text."""
N_BYTES = 256
_END = "</s>"


class Vocabulary:
    """Text to ids and back. Every byte has a token, so that no text is unknown."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # The text "</s>" is text: only `encode` ends a sentence. The file does not keep this.
        self._tokenizer.encode_special_tokens = True

    @classmethod
    def train(cls, lines: Iterator[str], size: int) -> "Vocabulary":
        """At most ``size`` tokens, the end token and the bytes among them, learnt from ``lines``.

        The same lines give the same vocabulary. Raises DataError for a size below 257.
        """
        if size < N_BYTES + 1:
            raise DataError(f"a vocabulary has at least {N_BYTES + 1} tokens (the bytes and the end), got {size}")
        tokenizers = _library()
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[_END],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(lines, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """The vocabulary that ``save`` wrote. Raises DataError if it cannot be read."""
        try:
            return cls(_library().Tokenizer.from_str(path.read_text(encoding="utf-8")))
        except DataError:
            raise
        # The library raises bare Exceptions.
        except Exception as error:
            raise DataError(f"cannot read the vocabulary {path}: {reason(error)}; prepare the pairs again") from error

    def save(self, path: Path) -> None:
        """Write one JSON file."""
        path.write_text(self._tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")

    @property
    def size(self) -> int:
        """Tokens, the end token among them."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, lines: Sequence[str]) -> list[np.ndarray]:
        """Ids of each line, int32, the end token last."""
        encoded = self._tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)
        return [np.array([*one.ids, END_ID], dtype=np.int32) for one in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first end token; what is not UTF-8 becomes U+FFFD."""
        kept = list(ids)
        if END_ID in kept:
            kept = kept[: kept.index(END_ID)]
        return str(self._tokenizer.decode(kept))


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise DataError(
            "pairs of sentences need the tokenizers package: pip install 'reformer-torch[translation]'"
        ) from error
    return tokenizers

"""A model as a folder that transformers reads: a converted one saved, and one of ours or of theirs opened."""

import shutil
from pathlib import Path
from typing import Any

from transformers import ReformerTokenizer

from reformer.conversion import (
    Codec,
    ConversionError,
    Converted,
    make_codec,
    read_json,
    read_transformers_folder,
    text_format,
)
from reformer.hf.configuration import ReformerTorchConfig
from reformer.hf.language_models import ReformerTorchForCausalLM, ReformerTorchForMaskedLM
from reformer.hf.tokenization import ReformerByteTokenizer
from reformer.models import ReformerLM


def save_converted(converted: Converted, folder: Path) -> None:
    """Save weights, config and, where the ids are bytes or pieces of words, the tokenizer."""
    kind = ReformerTorchForCausalLM if converted.config.causal else ReformerTorchForMaskedLM
    tokenizer = _tokenizer(converted)
    ids = {} if tokenizer is None else {n: getattr(tokenizer, n) for n in ("pad_token_id", "eos_token_id")}
    special = {name: value for name, value in ids.items() if value is not None}
    model = kind.from_reformer(converted.model(), bos_token_id=None, **special)
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    if converted.text.file is not None:
        shutil.copyfile(converted.text.file, folder / "spiece.model")


def open_folder(path: Path) -> tuple[ReformerLM, Codec]:
    """(the language model in evaluation mode, how its ids are read); a transformers Reformer is converted on the way.

    Raises ConversionError (a ValueError) for anything else.
    """
    kind = read_json(path / "config.json").get("model_type")
    if kind == "reformer":
        converted = read_transformers_folder(path)
        return converted.model(), make_codec(converted.text)
    if kind != ReformerTorchConfig.model_type:
        raise ConversionError(
            f"{path} is no Reformer: expected model_type 'reformer-torch' or 'reformer', got {kind!r}"
        )
    config = ReformerTorchConfig.from_pretrained(path).to_reformer()
    wrapped = ReformerTorchForCausalLM.from_pretrained(path)
    head = {f"head.{name}": weight for name, weight in wrapped.lm_head.state_dict().items()}
    model = ReformerLM(config).to(wrapped.dtype)
    model.load_state_dict({**wrapped.reformer.trunk.state_dict(), **head})
    return model.eval(), make_codec(text_format(path, config.vocab_size))


def _tokenizer(converted: Converted) -> Any:
    if converted.text.kind == "bytes":
        return ReformerByteTokenizer(offset=converted.text.offset)
    if converted.text.file is not None:
        return ReformerTokenizer.from_pretrained(converted.text.file.parent)
    return None

"""Opening a folder for ``--hf``: one that ``reformer convert`` or ``reformer.hf`` wrote, or a transformers Reformer."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reformer.conversion import Codec
    from reformer.models import ReformerLM


def open_hf(path: Path) -> "tuple[ReformerLM, Codec]":
    """(model in evaluation mode, how its ids are read); a transformers Reformer is converted on the way.

    Raises ConversionError (a ValueError) for anything else.
    """
    from reformer.conversion import ConversionError, make_codec, read_json, read_transformers_folder, text_format

    kind = read_json(path / "config.json").get("model_type")
    if kind == "reformer":
        converted = read_transformers_folder(path)
        return converted.model(), make_codec(converted.text)
    if kind != "reformer-torch":
        raise ConversionError(
            f"{path} is no Reformer: expected model_type 'reformer-torch' or 'reformer', got {kind!r}"
        )
    model = _from_our_folder(path)
    return model, make_codec(text_format(path, model.config.vocab_size))


def _from_our_folder(path: Path) -> "ReformerLM":
    from reformer.hf import ReformerTorchConfig, ReformerTorchForCausalLM
    from reformer.models import ReformerLM

    config = ReformerTorchConfig.from_pretrained(path).to_reformer()
    wrapped = ReformerTorchForCausalLM.from_pretrained(path)
    head = {f"head.{name}": weight for name, weight in wrapped.lm_head.state_dict().items()}
    model = ReformerLM(config).to(wrapped.dtype)
    model.load_state_dict({**wrapped.reformer.trunk.state_dict(), **head})
    return model.eval()

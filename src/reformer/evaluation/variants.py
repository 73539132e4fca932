"""The same weights under another attention: full, or LSH with another number of rounds."""

import re
from typing import Any

from reformer.models import ReformerLM


def attention_variant(model: ReformerLM, name: str) -> ReformerLM:
    """``model`` with its LSH layers replaced: "full", or "lsh-N" for N hash rounds; "as-trained" is the model itself.

    Local layers stay. Raises ValueError for another name, or a model whose full layers have keys of their own.
    """
    if name == "as-trained":
        return model
    rounds = re.fullmatch(r"lsh-([1-9]\d*)", name)
    kinds = model.config.attention
    if set(kinds) == {"local"}:
        raise ValueError(
            f"this model has local layers only: there is none to make {name!r}; leave the attention as trained"
        )
    changes: dict[str, Any]
    if name == "full":
        changes = {"attention": tuple("full" if kind == "lsh" else kind for kind in kinds)}
    elif rounds:
        # A model trained with full attention has no LSH layer: then its full layers are the ones to hash.
        replaced = "lsh" if "lsh" in kinds else "full"
        changes = {
            "attention": tuple("lsh" if kind == replaced else kind for kind in kinds),
            "n_hashes": int(rounds[1]),
        }
    else:
        raise ValueError(f"unknown attention {name!r}; expected as-trained, full, or lsh-N such as lsh-4")
    return model.with_changes(**changes)

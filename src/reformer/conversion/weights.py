"""The weights of a transformers Reformer under our names: every one is mapped, and every one of ours is filled."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from reformer.conversion.converted import ConversionError
from reformer.models import ReformerConfig, ReformerLM

# Constants that transformers before 5 kept among the weights.
_CONSTANTS = ("self_mask_value_float16", "self_mask_value_float32", "mask_value_float16", "mask_value_float32")
_LISTED = 6


def convert_weights(config: ReformerConfig, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ``state_dict`` of ``ReformerLM(config)`` from that of a transformers Reformer with a language-model head.

    Of the two input-only rows that our embedding has besides, the start row is a copy of row 0, which the authors' models
    were trained to read before the first token, and the mask row is zero.
    Raises ConversionError listing what is missing, what is surplus, or what has another shape than the config says.
    """
    given = {name: tensor for name, tensor in theirs.items() if not name.endswith(_CONSTANTS)}
    _drop_alias(given)
    names = dict(_names(config))
    _require_none("are missing", sorted(set(names) - set(given)))
    _require_none("are surplus: a Reformer with this config has none of this name", sorted(set(given) - set(names)))
    _require_one_dtype(given)
    ours = {names[name]: _reshaped(name, tensor) for name, tensor in given.items()}
    first = ours["embedding.weight"]
    ours["embedding.weight"] = torch.cat([first, first[:1], torch.zeros_like(first[:1])])
    with torch.device("meta"):
        expected = {name: tuple(p.shape) for name, p in ReformerLM(config).state_dict().items()}
    odd = [n for n, ours_name in names.items() if tuple(ours[ours_name].shape) != expected[ours_name]]
    _require_none(
        "have other shapes than the config says",
        [f"{n} {list(given[n].shape)} for {list(expected[names[n]])}" for n in sorted(odd)],
    )
    return ours


def _names(config: ReformerConfig) -> Iterator[tuple[str, str]]:
    """(their name, our name) of every weight."""
    yield "reformer.embeddings.word_embeddings.weight", "embedding.weight"
    if config.positions == "axial":
        for axis in range(len(config.axial_shape)):
            yield f"reformer.embeddings.position_embeddings.weights.{axis}", f"positions.tables.{axis}"
    else:
        yield "reformer.embeddings.position_embeddings.embedding.weight", "positions.tables.0"
    for index, kind in enumerate(config.attention):
        yield from _layer_names(f"reformer.encoder.layers.{index}", f"stack.layers.{index}", kind)
    yield from _both("reformer.encoder.layer_norm", "norm")
    yield "lm_head.decoder.weight", "head.weight"
    yield "lm_head.bias", "head.bias"


def _layer_names(theirs: str, ours: str, kind: str) -> Iterator[tuple[str, str]]:
    yield from _both(f"{theirs}.attention.layer_norm", f"{ours}.attention.norm")
    queries = {"query_key": "to_q"} if kind == "lsh" else {"query": "to_q", "key": "to_k"}
    for name, our_name in {**queries, "value": "to_v"}.items():
        yield f"{theirs}.attention.self_attention.{name}.weight", f"{ours}.attention.inner.{our_name}.weight"
    yield f"{theirs}.attention.output.dense.weight", f"{ours}.attention.inner.to_out.weight"
    yield from _both(f"{theirs}.feed_forward.layer_norm", f"{ours}.feed_forward.norm")
    for name, our_name in (("dense", "w_in"), ("output", "w_out")):
        yield from _both(f"{theirs}.feed_forward.{name}.dense", f"{ours}.feed_forward.inner.{our_name}")


def _both(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    for part in ("weight", "bias"):
        yield f"{theirs}.{part}", f"{ours}.{part}"


def _drop_alias(given: dict[str, Tensor]) -> None:
    # transformers before 5 kept the head's bias under two names.
    alias = given.pop("lm_head.decoder.bias", None)
    if alias is not None and not torch.equal(alias, given.setdefault("lm_head.bias", alias)):
        raise ConversionError("lm_head.bias and lm_head.decoder.bias differ, and one head has one bias; remove one")


def _reshaped(name: str, tensor: Tensor) -> Tensor:
    # Axial tables are [n1, 1, d1] and [1, n2, d2] there, so that they broadcast.
    if ".position_embeddings.weights." in name and tensor.dim() > 1:
        return tensor.flatten(0, -2)
    return tensor


def _require_one_dtype(given: Mapping[str, Tensor]) -> None:
    dtypes = {tensor.dtype for tensor in given.values()}
    if len(dtypes) != 1 or not next(iter(dtypes)).is_floating_point:
        found = ", ".join(sorted(map(str, dtypes)))
        raise ConversionError(f"expected weights of one floating-point dtype, got {found}; convert them to float32")


def _require_none(what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        raise ConversionError(f"{len(names)} weights {what}: {', '.join(names[:_LISTED])}{more}")

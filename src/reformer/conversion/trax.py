"""Reading the authors' trax checkpoints: a pickle of nested weights without names, beside a transformers config.json.

Where each weight lies in the tree is what transformers' own conversion of 2020 read there.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reformer.conversion.converted import ConversionError, Converted
from reformer.conversion.folder import read_json, text_format
from reformer.conversion.restricted_pickle import read_arrays
from reformer.conversion.transformers_config import convert_config
from reformer.conversion.weights import convert_weights
from reformer.models import ReformerConfig

# Places in the tree of a ReformerLM: its layers are numbered, those without weights too.
_EMBEDDING, _POSITIONS, _STACK, _NORM, _HEAD = 1, 3, 5, 7, 9
_PER_LAYER = 4  # attention, swap, feed-forward, swap


def read_trax_pickle(path: Path, config_path: Path) -> Converted:
    """The model in a trax ``model.pkl``, possibly gzipped, which holds weights and no config.

    ``config_path``: the config.json of the same model in transformers' format. The pickle is read by
    ``restricted_pickle``. Raises ConversionError, in one line, for anything but such a model.
    """
    config = convert_config(read_json(Path(config_path)))
    document = read_arrays(path)
    if not isinstance(document, dict) or "weights" not in document:
        raise ConversionError(f"{path} holds no trax model: expected a dict with 'weights'")
    theirs = dict(_named(_Node(document["weights"], "weights"), config))
    return Converted(
        config=config,
        weights=convert_weights(config, theirs),
        text=text_format(Path(config_path).parent, config.vocab_size),
    )


class _Node:
    """A place in the tree, which knows its path for messages."""

    def __init__(self, value: Any, path: str) -> None:
        self.value, self.path = value, path

    def __getitem__(self, index: int) -> "_Node":
        if not isinstance(self.value, tuple | list) or index >= len(self):
            raise ConversionError(
                f"expected at least {index + 1} parts at {self.path} of the trax model, got {len(self)}"
            )
        return _Node(self.value[index], f"{self.path}[{index}]")

    def __len__(self) -> int:
        return len(self.value) if isinstance(self.value, tuple | list) else 0

    def tensor(self, axes: int) -> Tensor:
        """The array here, which must have so many axes."""
        if not isinstance(self.value, np.ndarray) or self.value.ndim != axes:
            found = f"{self.value.ndim} axes" if isinstance(self.value, np.ndarray) else type(self.value).__name__
            raise ConversionError(f"expected an array of {axes} axes at {self.path} of the trax model, got {found}")
        native = np.array(self.value, dtype=self.value.dtype.newbyteorder("="))
        return torch.from_numpy(native)


def _named(root: _Node, config: ReformerConfig) -> Iterator[tuple[str, Tensor]]:
    """The weights under the names that transformers gives them."""
    yield "reformer.embeddings.word_embeddings.weight", root[_EMBEDDING].tensor(2)
    if config.positions != "axial":
        raise ConversionError("trax Reformers have axial positions, and the config says axial_pos_embds false")
    for axis in range(len(config.axial_shape)):
        table = root[_POSITIONS][axis][0].tensor(len(config.axial_shape) + 1)
        yield f"reformer.embeddings.position_embeddings.weights.{axis}", table
    stack = root[_STACK]
    if len(stack) != _PER_LAYER * len(config.attention):
        raise ConversionError(
            f"expected {_PER_LAYER * len(config.attention)} parts at {stack.path} of the trax model, {_PER_LAYER} for each "
            f"of the config's {len(config.attention)} attn_layers, got {len(stack)}"
        )
    for index, kind in enumerate(config.attention):
        first = _PER_LAYER * index
        yield from _layer(stack[first], stack[first + 2], f"reformer.encoder.layers.{index}", kind)
    yield from _norm(root[_NORM], "reformer.encoder.layer_norm")
    yield "lm_head.decoder.weight", root[_HEAD][0].tensor(2).t().contiguous()
    yield "lm_head.bias", root[_HEAD][1].tensor(1)


def _layer(attention: _Node, feed_forward: _Node, name: str, kind: str) -> Iterator[tuple[str, Tensor]]:
    yield from _norm(attention[0][0], f"{name}.attention.layer_norm")
    projections = ("query_key", "value") if kind == "lsh" else ("query", "key", "value")
    weights = attention[1]
    if len(weights) != len(projections) + 1:
        raise ConversionError(
            f"expected {len(projections) + 1} arrays at {weights.path} of the trax model for the config's {kind!r} layer, "
            f"got {len(weights)}; check attn_layers"
        )
    for place, projection in enumerate(projections):
        # [heads, d_model, head_dim] there.
        weight = weights[place].tensor(3).transpose(1, 2).flatten(0, 1)
        yield f"{name}.attention.self_attention.{projection}.weight", weight.contiguous()
    out = weights[len(projections)].tensor(3).flatten(0, 1).t()
    yield f"{name}.attention.output.dense.weight", out.contiguous()
    parts = feed_forward[0][1][2]
    if len(parts) == _PER_LAYER:
        # A feed-forward layer over slices lies one level deeper.
        parts = parts[2]
    yield from _norm(parts[0], f"{name}.feed_forward.layer_norm")
    yield from _dense(parts[1], f"{name}.feed_forward.dense.dense")
    yield from _dense(parts[4], f"{name}.feed_forward.output.dense")


def _norm(node: _Node, name: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", node[0].tensor(1)
    yield f"{name}.bias", node[1].tensor(1)


def _dense(node: _Node, name: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", node[0].tensor(2).t().contiguous()
    yield f"{name}.bias", node[1].tensor(1)

"""The config of a transformers Reformer as ours."""

from collections.abc import Mapping
from typing import Any

from reformer.conversion.converted import ConversionError
from reformer.models import ReformerConfig

_ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
# What a config.json that leaves a field out means: the defaults of transformers' ReformerConfig.
_DEFAULTS: dict[str, Any] = {
    "attention_head_size": 64,
    "attn_layers": ["local", "lsh", "local", "lsh", "local", "lsh"],
    "axial_pos_embds": True,
    "axial_pos_shape": [64, 64],
    "axial_pos_embds_dim": [64, 192],
    "feed_forward_size": 512,
    "hidden_act": "relu",
    "hidden_dropout_prob": 0.05,
    "hidden_size": 256,
    "is_decoder": False,
    "layer_norm_eps": 1e-12,
    "local_num_chunks_before": 1,
    "local_num_chunks_after": 0,
    "local_attention_probs_dropout_prob": 0.05,
    "local_attn_chunk_length": 64,
    "lsh_attn_chunk_length": 64,
    "lsh_attention_probs_dropout_prob": 0.0,
    "lsh_num_chunks_before": 1,
    "lsh_num_chunks_after": 0,
    "max_position_embeddings": 4096,
    "num_attention_heads": 12,
    "num_buckets": None,
    "num_hashes": 1,
    "vocab_size": 320,
}


def convert_config(document: Mapping[str, Any]) -> ReformerConfig:
    """Our config of a ``config.json`` with model_type "reformer".

    LSH layers get the pattern "trax", local ones keys of their own, those of bidirectional models look-back that wraps.
    There is one attention dropout here: the LSH layers', or without any the local ones'.
    Raises ConversionError for another model_type, an activation or a field that we do not have.
    """
    if document.get("model_type") != "reformer":
        raise ConversionError(
            f"expected a Reformer's config.json (model_type 'reformer'), got model_type {document.get('model_type')!r}"
        )
    theirs = {**_DEFAULTS, **{name: value for name, value in document.items() if name in _DEFAULTS}}
    kinds = _layers(theirs["attn_layers"])
    try:
        return ReformerConfig(
            attention=kinds,
            **_sizes(theirs),
            **_chunks(theirs, kinds),
            **_positions(theirs),
            n_hashes=theirs["num_hashes"],
            n_buckets=_tuple(theirs["num_buckets"]),
            dropout=float(theirs["hidden_dropout_prob"]),
            attention_dropout=_attention_dropout(theirs, kinds),
        )
    except (ValueError, TypeError) as error:
        raise ConversionError(f"this config describes no Reformer that can run: {error}") from error


def _layers(named: Any) -> tuple[str, ...]:
    kinds = tuple(named)
    if not kinds or any(kind not in ("lsh", "local") for kind in kinds):
        raise ConversionError(f"expected attn_layers of 'lsh' and 'local', got {list(kinds)}")
    return kinds


def _sizes(theirs: Mapping[str, Any]) -> dict[str, Any]:
    if theirs["hidden_act"] not in _ACTIVATIONS:
        raise ConversionError(
            f"expected hidden_act to be one of {', '.join(map(repr, _ACTIVATIONS))}, got {theirs['hidden_act']!r}"
        )
    return {
        "vocab_size": theirs["vocab_size"],
        "d_model": theirs["hidden_size"],
        "d_ff": theirs["feed_forward_size"],
        "n_heads": theirs["num_attention_heads"],
        "d_attn": theirs["num_attention_heads"] * theirs["attention_head_size"],
        "activation": _ACTIVATIONS[theirs["hidden_act"]],
        "layer_norm_eps": theirs["layer_norm_eps"],
    }


def _chunks(theirs: Mapping[str, Any], kinds: tuple[str, ...]) -> dict[str, Any]:
    # A kind that no layer has may have no options either (None).
    options: dict[str, Any] = {"causal": theirs["is_decoder"], "pattern": "trax", "shared_qk": False}
    if "lsh" in kinds:
        options["lsh_chunk_len"] = theirs["lsh_attn_chunk_length"]
        options["lsh_chunks_before"] = theirs["lsh_num_chunks_before"]
        options["lsh_chunks_after"] = theirs["lsh_num_chunks_after"]
    if "local" in kinds:
        options["local_chunk_len"] = theirs["local_attn_chunk_length"]
        options["local_chunks_before"] = theirs["local_num_chunks_before"]
        options["local_chunks_after"] = theirs["local_num_chunks_after"]
        # In a causal model what stands around the ends comes later, and is not seen.
        options["local_wrap"] = not theirs["is_decoder"]
    return options


def _positions(theirs: Mapping[str, Any]) -> dict[str, Any]:
    if not theirs["axial_pos_embds"]:
        return {"positions": "learned", "max_len": theirs["max_position_embeddings"]}
    return {
        "positions": "axial",
        "axial_shape": _tuple(theirs["axial_pos_shape"]),
        "axial_dims": _tuple(theirs["axial_pos_embds_dim"]),
    }


def _attention_dropout(theirs: Mapping[str, Any], kinds: tuple[str, ...]) -> float:
    kind = "lsh" if "lsh" in kinds else "local"
    return float(theirs[f"{kind}_attention_probs_dropout_prob"] or 0.0)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value

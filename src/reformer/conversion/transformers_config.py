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


# Fields that only have another name; those of layers belong to their kind.
_SAME = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "d_ff": "feed_forward_size",
    "n_heads": "num_attention_heads",
    "layer_norm_eps": "layer_norm_eps",
    "n_hashes": "num_hashes",
    "n_buckets": "num_buckets",
    "causal": "is_decoder",
}
_OF_KIND = {
    "{}_chunk_len": "{}_attn_chunk_length",
    "{}_chunks_before": "{}_num_chunks_before",
    "{}_chunks_after": "{}_num_chunks_after",
}
_AXIAL = {"axial_shape": "axial_pos_shape", "axial_dims": "axial_pos_embds_dim"}


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
    kinds = tuple(theirs["attn_layers"])
    if not kinds or any(kind not in ("lsh", "local") for kind in kinds):
        raise ConversionError(f"expected attn_layers of 'lsh' and 'local', got {list(kinds)}")
    if theirs["hidden_act"] not in _ACTIVATIONS:
        raise ConversionError(
            f"expected hidden_act to be one of {', '.join(map(repr, _ACTIVATIONS))}, got {theirs['hidden_act']!r}"
        )
    names = dict(_SAME)
    # A kind that no layer has may have no options either (None).
    for kind in set(kinds):
        names |= {ours.format(kind): name.format(kind) for ours, name in _OF_KIND.items()}
    names |= _AXIAL if theirs["axial_pos_embds"] else {"max_len": "max_position_embeddings"}
    dropout = theirs[f"{'lsh' if 'lsh' in kinds else 'local'}_attention_probs_dropout_prob"]
    try:
        return ReformerConfig(
            **{ours: _hashable(theirs[name]) for ours, name in names.items()},
            attention=kinds,
            d_attn=theirs["num_attention_heads"] * theirs["attention_head_size"],
            activation=_ACTIVATIONS[theirs["hidden_act"]],
            pattern="trax",
            shared_qk=False,
            # In a causal model what stands around the ends comes later, and is not seen.
            local_wrap="local" in kinds and not theirs["is_decoder"],
            positions="axial" if theirs["axial_pos_embds"] else "learned",
            dropout=float(theirs["hidden_dropout_prob"]),
            attention_dropout=float(dropout or 0.0),
        )
    except (ValueError, TypeError) as error:
        raise ConversionError(f"this config describes no Reformer that can run: {error}") from error


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

import dataclasses
import json
import subprocess
import sys

import pytest
from tests.models.helpers import refuses
from transformers import AutoConfig

from reformer.hf import ReformerTorchConfig
from reformer.models import ReformerConfig

UNUSUAL = ReformerConfig(
    vocab_size=13,
    d_model=24,
    d_ff=20,
    n_heads=3,
    head_dim=4,
    d_attn=12,
    attention=("full", "lsh", "local"),
    causal=False,
    n_hashes=3,
    n_buckets=(4, 6),
    pattern="bucket",
    lsh_chunk_len=16,
    lsh_window=5,
    local_chunk_len=32,
    attention_scale=0.5,
    activation="swiglu",
    axial_shape=(4, 5),
    axial_dims=(10, 14),
    embedding_std=0.5,
    tie_embeddings=True,
    dropout=0.1,
    attention_dropout=0.2,
    reversible=False,
    streams=1,
    ff_chunk_len=7,
    loss_chunk_len=None,
    impl="eager",
)


def test_every_field_survives_a_file(tmp_path):
    # A field that is new in ReformerConfig is in here by itself.
    config = ReformerTorchConfig.from_reformer(UNUSUAL, num_labels=5, hash_seed=9, pad_token_id=14)
    assert config.to_reformer() == UNUSUAL
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is ReformerTorchConfig
    assert again.to_reformer() == UNUSUAL
    assert (again.num_labels, again.hash_seed, again.pad_token_id) == (5, 9, 14)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert {field.name for field in dataclasses.fields(ReformerConfig)} <= stored.keys()


def test_the_default_is_the_default_of_the_model():
    assert ReformerTorchConfig().to_reformer() == ReformerConfig()


def test_transformers_names():
    config = ReformerTorchConfig(hidden_size=32, intermediate_size=48, num_attention_heads=8, tie_word_embeddings=True)
    assert config.to_reformer() == ReformerConfig(d_model=32, d_ff=48, n_heads=8, tie_embeddings=True)
    assert (config.hidden_size, config.num_attention_heads, config.tie_word_embeddings) == (32, 8, True)
    assert (config.num_hidden_layers, config.max_position_embeddings) == (4, 4096)
    config.hidden_size = 64
    assert config.to_reformer().d_model == 64
    assert ReformerTorchConfig(positions="none").max_position_embeddings is None


def test_what_it_refuses(tmp_path):
    with refuses(ValueError, "n_heads × head_dim", "256", "n_heads=3"):
        ReformerTorchConfig(n_heads=3)
    with refuses(ValueError, "num_hidden_layers=3", "4 layers"):
        ReformerTorchConfig(num_hidden_layers=3)
    assert ReformerTorchConfig(num_hidden_layers=4).num_hidden_layers == 4
    with refuses(ValueError, "pad_token_id", "258", "got 258"):
        ReformerTorchConfig(pad_token_id=258)
    config = ReformerTorchConfig(bos_token_id=256)
    config.pattern = "zigzag"
    with pytest.raises(ValueError, match="zigzag"):
        config.save_pretrained(tmp_path)


def test_the_library_does_not_need_transformers():
    code = "import sys, reformer, reformer.models, reformer.generation; print('transformers' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"

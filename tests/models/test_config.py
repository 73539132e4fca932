import dataclasses

import pytest

from reformer.models import ReformerConfig

from .helpers import refuses


@pytest.mark.parametrize(
    ("changes", "error", "facts"),
    [
        ({"n_buckets": 7}, ValueError, ("n_buckets must be even", "6 and 8")),
        ({"n_buckets": (4, 3)}, ValueError, ("n_buckets must be even",)),
        ({"n_buckets": ()}, ValueError, ("at least one factor",)),
        ({"n_heads": 3}, ValueError, ("256 is not a multiple of n_heads=3", "255")),
        ({"head_dim": 48}, ValueError, ("got 4 × 48 = 192", "head_dim=64 or d_attn=192")),
        ({"d_attn": 100, "head_dim": 64}, ValueError, ("attention width 100",)),
        ({"attention": ()}, ValueError, ("at least one layer",)),
        (
            {"attention": ("local", "lash")},
            ValueError,
            ("attention must be one of 'lsh', 'local', 'full', got 'lash'",),
        ),
        ({"pattern": "bucketed"}, ValueError, ("pattern must be one of 'paper', 'bucket', 'trax'",)),
        ({"activation": "tanh"}, ValueError, ("activation must be one of 'relu', 'gelu', 'gelu_tanh', 'swiglu'",)),
        ({"positions": "alibi"}, ValueError, ("positions must be one of", "'rotary'", "got 'alibi'")),
        ({"impl": "native"}, ValueError, ("impl must be one of 'auto', 'eager', 'reference', got 'native'",)),
        ({"lsh_window": 8}, ValueError, ("lsh_window belongs to pattern 'bucket', got pattern 'paper'",)),
        ({"lsh_window": 0, "pattern": "bucket"}, ValueError, ("lsh_window must be at least 1, got 0",)),
        ({"lsh_chunks_before": -1}, ValueError, ("lsh_chunks_before must be at least 0, got -1",)),
        ({"pattern": "bucket", "lsh_chunks_after": 1}, ValueError, ("pattern 'bucket' has no chunk edges", "1 and 1")),
        ({"local_wrap": True}, ValueError, ("local_wrap needs causal=False",)),
        ({"layer_norm_eps": 0.0}, ValueError, ("layer_norm_eps must be above 0, got 0.0",)),
        ({"dropout": 1.0}, ValueError, ("dropout must be in [0, 1), got 1.0",)),
        ({"attention_dropout": -0.1}, ValueError, ("attention_dropout must be in [0, 1)",)),
        ({"vocab_size": 0}, ValueError, ("vocab_size must be at least 1, got 0",)),
        ({"d_model": 2.5}, TypeError, ("d_model must be an int, got float 2.5",)),
        ({"n_hashes": 0}, ValueError, ("n_hashes must be at least 1",)),
        ({"lsh_chunk_len": 0}, ValueError, ("lsh_chunk_len must be at least 1",)),
        ({"loss_chunk_len": 0}, ValueError, ("loss_chunk_len must be at least 1",)),
        ({"axial_dims": (100, 100)}, ValueError, ("axial_dims must sum to d_model=256", "= 200")),
        ({"axial_dims": (256,)}, ValueError, ("positive and as many",)),
        ({"axial_shape": (64, 0)}, ValueError, ("positive and as many",)),
        ({"positions": "rotary", "d_attn": 20, "n_heads": 4}, ValueError, ("rotary positions need an even head_dim",)),
    ],
    ids=lambda x: "+".join(x) if isinstance(x, dict) else None,
)
def test_values_that_describe_no_model_are_refused(changes: dict, error: type[Exception], facts: tuple[str, ...]):
    with refuses(error, *facts):
        ReformerConfig(**changes)


def test_unknown_names_and_changes_after_the_fact_are_refused():
    with pytest.raises(TypeError, match="n_layers"):
        ReformerConfig(n_layers=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ReformerConfig().d_model = 3


def test_widths_are_split_evenly():
    assert ReformerConfig(d_model=256).axis_widths == (128, 128)
    assert ReformerConfig(d_model=256, axial_shape=(4, 4, 4)).axis_widths == (86, 85, 85)
    assert ReformerConfig(d_model=256, axial_dims=(56, 200)).axis_widths == (56, 200)


def test_longest_input():
    assert ReformerConfig(axial_shape=(8, 16)).longest_input == 128
    for positions in ("learned", "rotary"):
        assert ReformerConfig(positions=positions, max_len=77).longest_input == 77
    for positions in ("sinusoidal", "rotary-local", "none"):
        assert ReformerConfig(positions=positions, max_len=77).longest_input is None
    config = ReformerConfig(axial_shape=(8, 16))
    config.require_length(128)
    with refuses(ValueError, "length 129 is beyond the 128 positions", "product of at least 129"):
        config.require_length(129)
    with refuses(ValueError, "length 78 is beyond the 77 positions of max_len", "larger max_len"):
        ReformerConfig(positions="learned", max_len=77).require_length(78)


def test_input_only_tokens():
    config = ReformerConfig(vocab_size=50)
    assert (config.start_id, config.mask_id) == (50, 51)

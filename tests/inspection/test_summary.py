"""Captured tensors are those of the model's own pass, and the rows say what the tensors say."""

import numpy as np
import pytest
import torch
from tests.models.factory import VOCAB, some_tokens, tiny

from reformer.inspection import bucket_sizes, capture, distance_labels, effective_buckets, inspect_model
from reformer.inspection.statistics import recall_by_rounds
from reformer.layers import ParallelPass
from reformer.ops import Reach, full_attention, local_attention, lsh_attention

KINDS = ("local", "lsh", "full", "lsh")


def captured(model, tokens, seed=5):
    layers = []
    capture(model, tokens, seed, layers.append)
    return layers


@pytest.mark.parametrize("positions", ["axial", "rotary"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("reversible", [True, False])
def test_the_output_of_every_layer_follows_from_what_was_captured(reversible, causal, positions):
    model = tiny(attention=KINDS, positions=positions, causal=causal, reversible=reversible, n_hashes=3).eval()
    layers = captured(model, some_tokens(length=37))
    assert [layer.index for layer in layers] == [0, 1, 2, 3]
    after = int(not causal)
    for kind, layer in zip(KINDS, layers, strict=True):
        q, v = layer.q, layer.v
        if kind == "lsh":
            out = lsh_attention(q, v, layer.buckets, chunk_len=8, causal=causal, n_chunks_after=after)
        elif kind == "local":
            out = local_attention(q, layer.k, v, chunk_len=8, causal=causal, n_chunks_after=after)
        else:
            out = full_attention(q, layer.k, v, causal=causal)
        expected = layer.attention.to_out(out.transpose(1, 2).flatten(2))
        torch.testing.assert_close(layer.output, expected, rtol=1e-12, atol=1e-13)


def test_the_buckets_are_those_of_the_pass_with_that_seed():
    """The stack walked by hand with the captured outputs ends where the model's own pass ends."""
    model = tiny(attention=KINDS, n_hashes=3).eval()
    tokens = some_tokens(length=37)
    layers = captured(model, tokens, seed=5)
    with torch.inference_mode():
        x1 = x2 = model.add_positions(model.embedding(tokens), None)
        for layer, got in zip(model.stack.layers, layers, strict=True):
            x1 = x1 + got.output
            x2 = x2 + layer.feed_forward(x1, ParallelPass(seed=torch.tensor(0)))
        logits = model.head(model.norm(torch.cat([x1, x2], dim=-1)))
        torch.testing.assert_close(logits, model(tokens, seed=5), rtol=1e-12, atol=1e-13)
        assert not torch.allclose(logits, model(tokens, seed=6))
    assert not torch.equal(layers[1].buckets, captured(model, tokens, seed=6)[1].buckets)


def test_capture_leaves_the_model_as_it_was():
    model = tiny(attention=("lsh",)).train()
    captured(model, some_tokens())
    assert model.training
    assert not any(layer.attention._forward_hooks for layer in model.stack.layers)
    with pytest.raises(ValueError, match="beyond the 128 positions"):
        captured(model, some_tokens(length=200))
    assert not any(layer.attention._forward_hooks for layer in model.stack.layers)


def test_rows_say_what_the_tensors_say():
    model = tiny(attention=KINDS, n_hashes=2).eval()
    windows = [some_tokens(batch=1, length=length, seed=length)[0].numpy() for length in (40, 23)]
    rows = inspect_model(model, windows, seed=5, n_queries=100, rounds=(4,))
    assert [(row["layer"], row["kind"], row["head"]) for row in rows] == [
        (index, kind, head) for index, kind in enumerate(KINDS) for head in range(2)
    ]
    assert all(row["queries"] == 63 for row in rows)
    passes = [captured(model, torch.from_numpy(window)[None], 5 + n)[1] for n, window in enumerate(windows)]
    for head in range(2):
        row = rows[2 + head]
        assert [entry["rounds"] for entry in row["recall"]] == [1, 2, 4]
        parts = [recall_by_rounds(layer.q, layer.buckets, Reach.lsh(chunk_len=8), n_queries=100) for layer in passes]
        for view in range(2):
            mass = sum(n * part["mass"][0, head, view] for n, part in zip((40, 23), parts)) / 63
            assert row["recall"][view]["mass"] == pytest.approx(float(mass), rel=1e-9)
        assert row["recall"][2]["mass"] > row["recall"][1]["mass"]
        for distances in (row["distance_own"], row["distance_full"]):
            assert len(distances) == len(distance_labels(7)) == 7
            assert sum(distances) == pytest.approx(1.0)
        for r, occupancy in enumerate(row["occupancy"]):
            sizes = torch.cat([bucket_sizes(layer.buckets, 4)[0, head, r] for layer in passes])
            assert occupancy["n_buckets"] == 4
            assert occupancy["sizes"]["max"] == sizes.max() and occupancy["sizes"]["median"] == sizes.double().quantile(
                0.5
            )
            assert occupancy["empty_share"] == float((sizes == 0).double().mean())
            assert sum(occupancy["histogram"]) == pytest.approx(1.0)
    # Full attention has nothing to recall, and local attention one view.
    assert "recall" not in rows[4] and [entry["rounds"] for entry in rows[0]["recall"]] == [None]


def test_the_same_seed_gives_the_same_rows_and_no_window_is_refused():
    model, window = tiny().eval(), np.arange(30, dtype=np.int64) % VOCAB
    first = inspect_model(model, [window], seed=1, rounds=(8,))
    assert inspect_model(model, [window], seed=1, rounds=(8,)) == first
    assert inspect_model(model, [window], seed=2, rounds=(8,)) != first
    with pytest.raises(ValueError, match="no window"):
        inspect_model(model, [])


def test_bucket_sizes_and_their_effective_number():
    buckets = torch.tensor([0, 2, 2, 1, 2, 0])[None, None, None]
    assert bucket_sizes(buckets, 4).tolist() == [[[[2, 1, 3, 0]]]]
    assert bucket_sizes(buckets, 4, torch.tensor([[0, 0, -1, 0, 0, -3]])).tolist() == [[[[1, 1, 2, 0]]]]
    sizes = torch.tensor([[5, 5, 5, 0], [9, 0, 0, 0], [0, 0, 0, 0], [1, 1, 2, 0]])
    expected = torch.tensor([3.0, 1.0, 0.0, 2**1.5], dtype=torch.float64)
    torch.testing.assert_close(effective_buckets(sizes), expected)


def test_distance_labels():
    assert distance_labels(5) == ["0", "1", "2-3", "4-7", "8-15"]

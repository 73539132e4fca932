"""Cached decoding of an encoder-decoder equals its parallel pass, in any split, order of rows and layout of padding."""

import pytest
import torch

from reformer.models import EncoderDecoderConfig, ReformerEncoderDecoder

from .helpers import refuses
from .test_encoder_decoder import SOURCE, SOURCE_IDS, TARGET, V

KINDS = [
    {"shared_qk": False},
    {"positions": "rotary"},
    {"attention": ("lsh", "local", "full"), "encoder_attention": ("lsh",), "pattern": "bucket"},
    {"tie_embeddings": True, "positions": "learned", "attention": ("full",)},
    {"streams": 1, "reversible": False},
]


def model_of(**changes) -> ReformerEncoderDecoder:
    options = {"vocab_size": V, "d_model": 8, "d_ff": 12, "n_heads": 2, "n_buckets": 4, "lsh_chunk_len": 8}
    options |= {"local_chunk_len": 4, "positions": "sinusoidal", "max_len": 40, "embedding_std": 1.0, "dropout": 0.3}
    torch.manual_seed(3)
    # In training mode: decoding must not drop anything there either.
    return ReformerEncoderDecoder(EncoderDecoderConfig(**{**options, **changes})).train()


def in_parallel(model: ReformerEncoderDecoder, source, tokens, source_ids=None, ids=None) -> torch.Tensor:
    parallel = model.with_changes(n_buckets=model.config.n_buckets or 4).eval()
    return parallel(source, tokens, source_segment_ids=source_ids, segment_ids=ids, seed=0)


@pytest.mark.parametrize("changes", KINDS, ids=str)
@pytest.mark.parametrize("calls", [[13], [1] * 13, [5, 1, 3, 4]], ids=str)
def test_equals_the_parallel_pass(calls: list[int], changes: dict):
    model = model_of(**changes)
    state = model.decoding_state(SOURCE, source_segment_ids=SOURCE_IDS, max_len=13)
    assert model.training
    found = torch.cat([model.decode(part, state) for part in TARGET.split(calls, dim=1)], dim=1)
    torch.testing.assert_close(found, in_parallel(model, SOURCE, TARGET, SOURCE_IDS), rtol=1e-4, atol=1e-4)


def test_vectors_in_place_of_the_source():
    model = model_of(source_vocab_size=20).eval()
    vectors = model.source_embedding(SOURCE)
    expected = in_parallel(model, SOURCE, TARGET, SOURCE_IDS)
    assert torch.equal(model(None, TARGET, source_embeds=vectors, source_segment_ids=SOURCE_IDS, seed=0), expected)
    state = model.decoding_state(source_embeds=vectors, source_segment_ids=SOURCE_IDS, max_len=13)
    torch.testing.assert_close(model.decode(TARGET, state), expected, rtol=1e-4, atol=1e-4)


def test_with_left_padding_of_the_target():
    model = model_of()
    ids = torch.zeros_like(TARGET)
    ids[1, :4] = -1
    state = model.decoding_state(SOURCE, source_segment_ids=SOURCE_IDS, max_len=13)
    found = [model.decode(TARGET[:, :6], state, ids[:, :6])]
    found += [model.decode(TARGET[:, i : i + 1], state, ids[:, i : i + 1]) for i in range(6, 13)]
    expected = in_parallel(model, SOURCE, TARGET, SOURCE_IDS, ids)
    torch.testing.assert_close(torch.cat(found, 1)[ids >= 0], expected[ids >= 0], rtol=1e-4, atol=1e-4)


def test_reordered_rows_go_on_with_their_own_source_and_past():
    model = model_of(attention=("lsh", "full"), pattern="bucket")
    state = model.decoding_state(SOURCE, source_segment_ids=SOURCE_IDS, max_len=13)
    model.decode(TARGET[:, :6], state)
    rows = torch.tensor([2, 0, 0, 1, 2])
    state.reorder(rows)
    tokens = torch.cat([TARGET[rows, :6], TARGET[:1, 6:].expand(5, -1)], dim=1)
    found = torch.cat([model.decode(tokens[:, i : i + 1], state) for i in range(6, 13)], dim=1)
    expected = in_parallel(model, SOURCE[rows], tokens, SOURCE_IDS[rows])[:, 6:]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_source_is_read_once(monkeypatch: pytest.MonkeyPatch):
    model = model_of()
    reads = []
    for layer in model.stack.layers:
        layer.cross_attention.inner.to_k.register_forward_hook(lambda *args: reads.append(1))
    state = model.decoding_state(SOURCE, max_len=13)
    for i in range(13):
        model.decode(TARGET[:, i : i + 1], state)
    assert len(reads) == 2


def test_last_only_gives_the_last_logits():
    model = model_of()
    states = [model.decoding_state(SOURCE, max_len=13) for _ in range(2)]
    whole, last = model.decode(TARGET, states[0]), model.decode(TARGET, states[1], last_only=True)
    torch.testing.assert_close(last, whole[:, -1:])


def test_a_source_of_two_segments_or_of_another_shape_is_refused():
    model, ids = model_of(), torch.zeros_like(SOURCE)
    ids[1, 3:] = 1
    with refuses(ValueError, "a row is one segment", "source_segment_ids"):
        model.decoding_state(SOURCE, source_segment_ids=ids)
    with refuses(ValueError, "source_segment_ids must be [batch, length], as the source"):
        model.decoding_state(SOURCE, source_segment_ids=ids[:, :-1])
    assert model.training

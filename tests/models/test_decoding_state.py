"""The state of a generation: reordered, saved, grown, and what it refuses."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from reformer.models import DecodingState, ReformerConfig, ReformerLM

from .helpers import refuses

CONFIG = ReformerConfig(
    vocab_size=11,
    d_model=8,
    d_ff=16,
    n_heads=2,
    attention=("local", "lsh", "full"),
    n_hashes=2,
    n_buckets=4,
    pattern="paper",
    lsh_chunk_len=4,
    local_chunk_len=3,
    axial_shape=(32, 32),
    embedding_std=1.0,
)
PADDING = torch.tensor([[0] * 10, [-1] * 4 + [0] * 6])


def a_model(**changes) -> ReformerLM:
    torch.manual_seed(0)
    return ReformerLM(ReformerConfig(**{**vars(CONFIG), **changes})).eval()


def tokens(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 11, (batch, length), generator=torch.Generator().manual_seed(seed))


def prompted(model: ReformerLM, seed: int = 3) -> DecodingState:
    state = model.decoding_state(2, 64, seed)
    model.decode(tokens(2, 10), state, PADDING)
    return state


@pytest.mark.parametrize("impl", ["auto", "eager"])
@pytest.mark.parametrize("pattern", ["paper", "bucket", "trax"])
def test_reordered_rows_go_on_as_the_rows_they_were(pattern, impl):
    model, rows = a_model(pattern=pattern, impl=impl), torch.tensor([1, 0, 1, 1])
    state, reordered = prompted(model), prompted(model)
    reordered.reorder(rows)
    # The tokens of each row before the rows part.
    for step in range(5):
        new = tokens(2, 1 + step % 2, seed=step)
        expected = model.decode(new, state)
        torch.testing.assert_close(model.decode(new[rows], reordered), expected[rows], rtol=1e-5, atol=1e-5)
    assert reordered.counts.tolist() == state.counts[rows].tolist() and reordered.batch_size == 4


@pytest.mark.parametrize("impl", ["auto", "eager"])
@pytest.mark.parametrize("pattern", ["paper", "bucket", "trax"])
def test_a_saved_state_goes_on_to_the_same_bits(tmp_path, pattern, impl):
    model = a_model(pattern=pattern, impl=impl)
    state = prompted(model)
    model.decode(tokens(2, 3), state)
    save_file(state.to_tensors(), tmp_path / "state.safetensors")
    loaded = DecodingState.from_tensors(model, load_file(tmp_path / "state.safetensors"))
    assert (loaded.length, loaded.max_len, loaded.n_buckets) == (13, 64, 4)
    for step in range(4):
        new = tokens(2, 2, seed=step)
        assert torch.equal(model.decode(new, loaded), model.decode(new, state))


def test_a_state_of_another_model_is_refused():
    state = prompted(a_model())
    with refuses(ValueError, "layer 0", "keys", "[2, 2, 6, 4]"):
        DecodingState.from_tensors(a_model(local_chunk_len=2), state.to_tensors())
    with refuses(ValueError, "layer 1", "buckets, keys, rotations, values", "got keys, values"):
        DecodingState.from_tensors(
            a_model(attention=("local", "lsh", "lsh")), _without(state, "layers.1.b", "layers.1.r")
        )
    with refuses(ValueError, "n_buckets=[4]", "[8]"):
        DecodingState.from_tensors(a_model(n_buckets=8), state.to_tensors())
    with refuses(ValueError, "not the tensors of a decoding state", "counts missing"):
        DecodingState.from_tensors(a_model(), _without(state, "counts"))


def _without(state: DecodingState, *prefixes: str) -> dict[str, torch.Tensor]:
    return {name: x for name, x in state.to_tensors().items() if not name.startswith(prefixes)}


@pytest.mark.parametrize("pattern", ["paper", "bucket", "trax"])
def test_memory_that_grows_changes_nothing(pattern):
    # The caches begin with 256 places and double: 300 and 600 go beyond. A state that has them at once is the same.
    model, row = a_model(pattern=pattern), tokens(1, 610)
    growing, roomy = model.decoding_state(1), model.decoding_state(1)
    some = next(model.parameters())
    roomy.begin(model.stack, some.dtype, some.device)
    for cache in roomy.caches:
        cache.reserve(1024)
    assert [c.slots for c in roomy.caches] == [6, 1024, 1024]
    for state in (growing, roomy):
        model.decode(row[:, :200], state)
    for part in (slice(200, 290), slice(290, 291), slice(291, 610)):
        assert torch.equal(model.decode(row[:, part], growing), model.decode(row[:, part], roomy))
    assert [c.slots for c in growing.caches] == [6, 1024, 1024] and [c.slots for c in roomy.caches] == [6, 1024, 1024]


def test_last_only_hidden_and_embeddings_are_the_same_function():
    model, new = a_model(), tokens(2, 10)
    logits = model.decode(new, prompted(model))
    assert torch.equal(model.decode(new, prompted(model), last_only=True), logits[:, -1:])
    assert torch.equal(model.head(model.decode_hidden(new, prompted(model))), logits)
    embedded = model.decode(None, prompted(model), inputs_embeds=model.embedding(new))
    assert torch.equal(embedded, logits)
    assert not logits.requires_grad
    assert torch.equal(a_model().train().decode(new, prompted(a_model())), logits)


@pytest.mark.parametrize(
    ("impl", "dtype", "tolerance"), [("eager", torch.float64, 1e-11), ("auto", torch.bfloat16, 0.25)]
)
def test_other_precisions(impl, dtype, tolerance):
    # Full and local layers: in bfloat16 a hash would fall elsewhere now and then.
    model = a_model(attention=("local", "full"), impl=impl).to(dtype)
    row = tokens(2, 40)
    state = model.decoding_state(2)
    found = torch.cat(
        [model.decode(row[:, :20], state), *(model.decode(row[:, t : t + 1], state) for t in range(20, 40))], 1
    )
    with torch.no_grad():
        torch.testing.assert_close(found, model(row), rtol=0, atol=tolerance)


def test_the_number_of_buckets_is_fixed_for_the_longest_sequence():
    model = a_model(n_buckets=None)
    assert model.decoding_state(1, 64).n_buckets == 32
    assert model.decoding_state(1).n_buckets == (16, 32)
    assert a_model(n_buckets=(2, 4)).decoding_state(1).n_buckets == (2, 4)


def test_what_cannot_be_decoded_says_so():
    model = a_model()
    with refuses(ValueError, "only a causal model", "causal=False"):
        a_model(causal=False).decoding_state(1)
    with refuses(ValueError, "positions='none'", "give max_len"):
        a_model(positions="none").decoding_state(1)
    with refuses(ValueError, "1025", "1024 positions"):
        model.decoding_state(1, 1025)
    state = model.decoding_state(2, 12)
    with refuses(ValueError, "max_len=12", "max_len of at least 13"):
        model.decode(tokens(2, 13), state)
    assert state.length == 0
    model.decode(tokens(2, 12), state)
    with refuses(ValueError, "12 tokens and 1 new ones exceed"):
        model.decode(tokens(2, 1), state)
    with refuses(ValueError, "[2, any, 8]", "got [3, 1, 8]"):
        model.decode(tokens(3, 1), prompted(model))
    with refuses(ValueError, "exactly one of tokens and inputs_embeds"):
        model.decode(None, state)
    with refuses(ValueError, "at least 1, got 0"):
        model.decode(tokens(2, 0), prompted(model))
    with refuses(ValueError, "a row is one segment", "rows of their own"):
        model.decode(tokens(2, 3), prompted(model), torch.tensor([[0, 0, 0], [0, 1, -1]]))
    with refuses(ValueError, "segment_ids", "[2, 3]", "got [2, 2]"):
        model.decode(tokens(2, 3), prompted(model), torch.zeros(2, 2, dtype=torch.int64))
    with refuses(TypeError, "rows must hold integers"):
        prompted(model).reorder(torch.tensor([0.0]))

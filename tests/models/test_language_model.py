import itertools
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from reformer.models import ReformerConfig, ReformerLM
from reformer.testing import largest_tensor

from .factory import VOCAB, assert_same, loss_and_gradients, some_tokens, tiny
from .helpers import refuses

KINDS = ("local", "lsh", "full")
POSITIONS = ("axial", "learned", "sinusoidal", "rotary", "rotary-local", "none")


@pytest.mark.parametrize("length", [1, 2, 63, 65, 128])
@pytest.mark.parametrize("kind", KINDS)
def test_any_length(kind: str, length: int):
    for causal, n_buckets in itertools.product((True, False), (None, 4)):
        model = tiny(attention=(kind, kind), causal=causal, n_buckets=n_buckets)
        tokens = some_tokens(length=length)
        assert model(tokens).shape == (2, length, VOCAB)
        results = loss_and_gradients(model, lambda m, t=tokens: m(t, targets=t, seed=0))
        assert all(value is not None and value.isfinite().all() for value in results.values())


@pytest.mark.parametrize("positions", POSITIONS)
def test_loss_is_the_cross_entropy_of_the_logits(positions: str):
    model = tiny(positions=positions).eval()
    tokens, targets = some_tokens(), some_tokens(seed=1)
    targets[0, :7] = -100
    logits = model(tokens)
    each = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(2, 20)
    torch.testing.assert_close(model(tokens, targets=targets, reduction="none"), each)
    torch.testing.assert_close(model(tokens, targets=targets, reduction="sum"), each.sum())
    torch.testing.assert_close(model(tokens, targets=targets), each.sum() / 33)


def test_head_reads_both_streams_and_its_bias():
    model = tiny().eval()
    logits, hidden = model(some_tokens()), model.hidden(some_tokens())
    assert hidden.shape == (2, 20, 16)
    torch.testing.assert_close(logits, hidden @ model.head.weight.t() + model.head.bias)
    assert all(
        p.grad.abs().sum() > 0 for p in model.head.parameters() if logits.sum().backward(retain_graph=True) is None
    )


def test_positions_are_added_once():
    model = tiny(attention=("full",)).eval()
    tokens = some_tokens()
    features = model.embedding(tokens)
    torch.testing.assert_close(model(inputs_embeds=features), model(tokens))
    ids = torch.arange(20).expand(2, 20)
    torch.testing.assert_close(model(tokens, position_ids=ids), model(tokens))
    assert not torch.allclose(model(tokens, position_ids=ids + 1), model(tokens))


def test_without_positions_order_is_unknown_to_a_bidirectional_model():
    model = tiny(attention=("full",), causal=False, positions="none").eval()
    tokens = some_tokens()
    shuffled = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(tokens[:, shuffled]), model(tokens)[:, shuffled])
    for positions in ("axial", "learned", "sinusoidal", "rotary"):
        other = tiny(attention=("full",), causal=False, positions=positions).eval()
        assert not torch.allclose(other(tokens[:, shuffled]), other(tokens)[:, shuffled], atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_rotary_local_rotates_local_layers_alone(kind: str):
    tokens = some_tokens()
    twin = tiny(attention=(kind,), positions="rotary" if kind == "local" else "none").eval()
    model = tiny(attention=(kind,), positions="rotary-local").eval()
    model.load_state_dict(twin.state_dict())
    assert model(tokens).equal(twin(tokens))


@pytest.mark.parametrize("positions", ["axial", "rotary", "sinusoidal"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_either_side_is_inert(kind: str, causal: bool, positions: str):
    for pattern, n_buckets in (("paper", None), ("bucket", None), ("paper", 4)) if kind == "lsh" else (("paper", 4),):
        model = tiny(
            attention=(kind, kind), causal=causal, positions=positions, pattern=pattern, n_buckets=n_buckets,
            max_len=64,
        ).eval()  # fmt: skip
        # Rows of 20 and 13 tokens, alone and in batches padded to 33 on the left, on the right, and on both sides.
        rows = [some_tokens(1, 20), some_tokens(1, 13, seed=1)]
        alone = [model(row) for row in rows]
        for places in ((0, 0), (13, 20), (7, 11)):
            tokens, segments = torch.full((2, 33), model.config.mask_id), torch.full((2, 33), -1)
            for b, (row, first) in enumerate(zip(rows, places)):
                tokens[b, first : first + row.shape[1]] = row[0]
                segments[b, first : first + row.shape[1]] = 0
            logits = model(tokens, segment_ids=segments)
            assert logits.isfinite().all()
            for b, (expected, first) in enumerate(zip(alone, places)):
                found = logits[b : b + 1, first : first + expected.shape[1]]
                torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", ["local", "full"])
@pytest.mark.parametrize("positions", ["axial", "rotary"])
def test_packed_segments_equal_separate_runs(kind: str, positions: str):
    for causal in (True, False):
        model = tiny(attention=(kind, kind), causal=causal, positions=positions).eval()
        first, second = some_tokens(1, 17), some_tokens(1, 10, seed=1)
        segments = torch.tensor([[4] * 17 + [-1] * 2 + [1] * 10])
        packed = model(torch.cat([first, first[:, :2], second], 1), segment_ids=segments)
        torch.testing.assert_close(packed[:, :17], model(first), rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(packed[:, 19:], model(second), rtol=1e-9, atol=1e-10)


def changed_after(tokens: torch.Tensor, position: int) -> torch.Tensor:
    changed = tokens.clone()
    changed[:, position:] = (tokens[:, position:] + 1 + torch.arange(tokens.shape[1] - position)) % VOCAB
    return changed


@pytest.mark.parametrize("n_buckets", [2, 4, (2, 4)])
def test_no_leak_from_the_future(n_buckets):
    for window in (None, 3):
        model = tiny(
            attention=("lsh", "local", "full", "lsh"), pattern="bucket", n_buckets=n_buckets, lsh_window=window
        ).eval()
        tokens = some_tokens(length=60)
        before = model(tokens)
        for position in (1, 30, 59):
            after = model(changed_after(tokens, position))
            torch.testing.assert_close(after[:, :position], before[:, :position], rtol=1e-9, atol=1e-10)
            assert (after - before)[:, position:].abs().amax(-1).gt(1e-6).any(1).all()


def test_a_causal_prefix_has_the_logits_of_the_whole():
    model = tiny(attention=("lsh", "local", "full"), pattern="bucket").eval()
    tokens = some_tokens(length=40)
    whole = model(tokens)
    for length in (1, 17, 39):
        torch.testing.assert_close(model(tokens[:, :length]), whole[:, :length], rtol=1e-9, atol=1e-10)


def test_the_paper_pattern_lets_a_later_token_move_a_chunk_edge():
    model = tiny(attention=("lsh", "lsh"), pattern="paper", n_buckets=2).eval()
    tokens = some_tokens(length=60)
    before, after = model(tokens), model(changed_after(tokens, 50))
    assert (after - before)[:, :50].abs().max() > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_bidirectional_model_sees_both_sides(kind: str):
    model = tiny(attention=(kind, kind), causal=False, n_hashes=4, n_buckets=2).eval()
    features = torch.randn(1, 16, 8, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(inputs_embeds=features)[0, 8].sum(), features)
    seen = gradient[0].abs().sum(-1) > 1e-9
    assert seen[:8].any() and seen[9:].any()


def test_evaluation_without_a_seed_repeats_and_leaves_the_global_generator_alone():
    model = tiny(dropout=0.3, attention_dropout=0.3).eval()
    tokens = some_tokens()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = model(tokens)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(model(tokens), first)
    assert torch.equal(model(tokens, seed=0), first)
    assert not torch.equal(model(tokens, seed=1), first)


def test_training_without_a_seed_follows_the_global_one():
    model, tokens = tiny(dropout=0.3), some_tokens()
    torch.manual_seed(1)
    first, second = model(tokens), model(tokens)
    torch.manual_seed(1)
    assert torch.equal(model(tokens), first)
    assert not torch.equal(second, first)
    assert torch.equal(model(tokens, seed=3), model(tokens, seed=torch.tensor(3)))


def test_shift_right():
    model = tiny()
    assert model.shift_right(torch.tensor([[5, 6, 7], [1, 2, 3]])).tolist() == [[VOCAB, 5, 6], [VOCAB, 1, 2]]


@pytest.mark.parametrize("positions", POSITIONS)
def test_state_dict_has_no_entry_twice_and_round_trips(positions: str, tmp_path: Path):
    model = tiny(positions=positions, attention=("local", "lsh", "full"), activation="swiglu")
    state = model.state_dict()
    assert len({tensor.untyped_storage().data_ptr() for tensor in state.values()}) == len(state)
    assert set(state) == {name for name, _ in model.named_parameters(remove_duplicate=False)}
    save_file(state, tmp_path / "model.safetensors")
    other = tiny(positions=positions, attention=("local", "lsh", "full"), activation="swiglu", n_hashes=2)
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other(some_tokens(), seed=1), model(some_tokens(), seed=1))


def test_local_and_full_attention_are_one_function_within_a_chunk():
    model = tiny(attention=("full", "full"), local_chunk_len=32).float().double().eval()
    expected = model(some_tokens())
    for attention in itertools.product(("local", "full"), repeat=2):
        changed = model.with_changes(attention=attention)
        assert not changed.training
        torch.testing.assert_close(changed(some_tokens()), expected, rtol=1e-10, atol=1e-11)


@torch.no_grad()
def test_more_rounds_come_nearer_to_full_attention():
    model = tiny(attention=("full", "full"), lsh_chunk_len=32).float().double().eval()
    expected = model(some_tokens())
    errors = [
        float((model.with_changes(attention=("lsh", "lsh"), n_hashes=n)(some_tokens()) - expected).abs().mean())
        for n in (1, 8, 64)
    ]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_with_changes_keeps_every_bit(dtype: torch.dtype):
    model = tiny().to(dtype)
    changed = model.with_changes(reversible=False, n_hashes=3)
    assert changed.config.n_hashes == 3 and not changed.config.reversible
    for name, tensor in model.state_dict().items():
        assert changed.state_dict()[name].dtype == dtype
        assert torch.equal(changed.state_dict()[name], tensor), name


def test_with_changes_refuses_other_parameters():
    model = tiny()
    for changes, odd in (
        ({"d_ff": 20}, "w_in"),
        ({"attention": ("lsh",)}, "stack.layers.1"),
        ({"vocab_size": 12}, "head"),
    ):
        with refuses(ValueError, "needs other parameters than this model has", odd):
            model.with_changes(**changes)
    with refuses(ValueError, "n_buckets must be even"):
        model.with_changes(n_buckets=5)
    with pytest.raises(TypeError, match="nonsense"):
        model.with_changes(nonsense=1)


def test_logits_of_the_loss_are_never_whole():
    model = tiny(vocab_size=512, axial_shape=(16, 32), loss_chunk_len=16, attention=("local",)).float()
    tokens = torch.zeros(1, 512, dtype=torch.int64)
    whole = 512 * 512 * 4
    # The op hides its inside: test_cross_entropy looks there. Here: nothing whole passes between the ops.
    assert largest_tensor(lambda: model(tokens, targets=tokens).backward()) < whole / 4
    assert largest_tensor(lambda: model(tokens)) >= whole


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda m: m(), ("exactly one of tokens and inputs_embeds",)),
        (lambda m: m(some_tokens(), inputs_embeds=torch.zeros(2, 20, 8).double()), ("exactly one of",)),
        (lambda m: m(some_tokens(length=129)), ("length 129 is beyond the 128 positions", "(8, 16)")),
        (lambda m: m(inputs_embeds=torch.zeros(2, 20, 7).double()), ("[batch, length, 8]", "got", "[2, 20, 7]")),
        (lambda m: m(some_tokens()[:, :0]), ("length >= 1", "[2, 0, 8]")),
        (lambda m: m(some_tokens()[0]), ("tokens [batch, length >= 1]", "[20, 8]")),
        (lambda m: m(some_tokens(), targets=some_tokens(length=19)), ("targets must be", "[2, 20]", "got [2, 19]")),
        (
            lambda m: m(some_tokens(), segment_ids=torch.zeros(2, 19).long(), position_ids=torch.zeros(2, 20).long()),
            ("segment_ids must be", "[2, 20]"),
        ),
        (
            lambda m: m(some_tokens(), segment_ids=torch.zeros(2, 19).long()),
            ("segment_ids must be", "[2, 20]", "[2, 19]"),
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused(call, facts):
    with refuses(ValueError, *facts):
        call(tiny())


def test_learned_positions_have_an_end():
    with refuses(ValueError, "length 11 is beyond the 10 positions of max_len"):
        tiny(positions="learned", max_len=10)(some_tokens(length=11))


def test_initial_loss_is_near_that_of_a_uniform_guess():
    torch.manual_seed(0)
    model = ReformerLM(ReformerConfig(d_model=64, d_ff=64, lsh_chunk_len=16, local_chunk_len=16))
    tokens = torch.randint(0, 256, (2, 100))
    loss = model(tokens, targets=tokens.roll(1, 1)).item()
    assert math.log(256) - 0.2 < loss < math.log(256) + 1.0


def test_a_bucket_model_learns_to_copy():
    model = tiny(attention=("lsh", "local"), pattern="bucket", positions="rotary").float()
    tokens = some_tokens(4, 12).repeat(1, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(60):
        optimizer.zero_grad()
        loss = model(model.shift_right(tokens), targets=tokens, seed=step)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_chunk_lengths_change_nothing():
    reference = loss_and_gradients(tiny(dropout=0.3), lambda m: m(some_tokens(), targets=some_tokens(), seed=0))
    for chunk in (None, 1, 6, 100):
        model = tiny(dropout=0.3, ff_chunk_len=chunk, loss_chunk_len=chunk)
        assert_same(loss_and_gradients(model, lambda m: m(some_tokens(), targets=some_tokens(), seed=0)), reference)


@pytest.mark.parametrize("impl", ["eager", "reference"])
def test_implementations_agree(impl: str):
    for pattern in ("paper", "bucket", "trax"):
        options = {"attention": ("lsh", "local", "full"), "pattern": pattern, "attention_dropout": 0.2}
        results = [
            loss_and_gradients(tiny(impl=i, **options), lambda m: m(some_tokens(), targets=some_tokens(), seed=0))
            for i in ("auto", impl)
        ]
        assert_same(*results)

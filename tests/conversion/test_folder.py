"""Reading folders that transformers saved, and refusing, in one line, what is none."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reformer.conversion import ConversionError, is_transformers_folder, read_transformers_folder

from .helpers import our_logits, small_config, some_ids, their_logits, transformers_model


def refuses(*facts: str):
    return pytest.raises(ConversionError, match=r"(?s)^(?!.*\n)" + "".join(f"(?=.*{fact})" for fact in facts))


@pytest.fixture(scope="module")
def theirs():
    with torch.random.fork_rng():
        return transformers_model(small_config())


@pytest.fixture
def folder(theirs, tmp_path: Path) -> Path:
    theirs.save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, function) -> None:
    """Replace the weights by what ``function`` makes of them."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    function(weights)
    save_file(weights, path)


def configure(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def assert_converts(folder: Path, theirs) -> None:
    tokens = some_ids(50, 21)
    found = our_logits(read_transformers_folder(folder).model(), tokens)
    torch.testing.assert_close(found, their_logits(theirs, tokens), rtol=0.0, atol=1e-5)


def test_safetensors(folder: Path, theirs):
    assert is_transformers_folder(folder)
    assert_converts(folder, theirs)


def test_shards(theirs, tmp_path: Path):
    theirs.save_pretrained(tmp_path, max_shard_size="10KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert_converts(tmp_path, theirs)
    shards[1].unlink()
    with refuses(f"{shards[1].name} is missing"):
        read_transformers_folder(tmp_path)


def test_old_bin_with_its_constants_and_the_bias_under_two_names(folder: Path, theirs):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weights["lm_head.decoder.bias"] = weights["lm_head.bias"].clone()
    weights["reformer.encoder.layers.1.attention.self_attention.self_mask_value_float32"] = torch.tensor(-1e5)
    torch.save(weights, folder / "pytorch_model.bin")
    assert_converts(folder, theirs)
    weights["lm_head.decoder.bias"] += 1.0
    torch.save(weights, folder / "pytorch_model.bin")
    with refuses("lm_head.bias and lm_head.decoder.bias differ"):
        read_transformers_folder(folder)


def test_a_bin_that_would_run_code_is_refused(folder: Path, tmp_path: Path):
    (folder / "model.safetensors").unlink()
    torch.save({"a": Path("x")}, folder / "pytorch_model.bin")
    with refuses("pytorch_model.bin cannot be read as weights: Weights only load failed"):
        read_transformers_folder(folder)


def test_every_weight_is_used(folder: Path):
    weights = load_file(folder / "model.safetensors")
    before = read_transformers_folder(folder).weights
    for name in weights:
        change(folder, lambda w, n=name: w[n].add_(1.0))
        after = read_transformers_folder(folder).weights
        assert any(not torch.equal(after[ours], before[ours]) for ours in before), name
        change(folder, lambda w, n=name: w.update({n: weights[n]}))


def test_the_start_row_is_what_the_authors_shifted_in(folder: Path):
    embedding = read_transformers_folder(folder).model().embedding.weight
    assert embedding.shape == (52, 16)
    assert torch.equal(embedding[50], embedding[0])
    assert not embedding[51].any()


def test_missing_and_surplus_weights_are_listed(folder: Path):
    change(folder, lambda w: [w.pop(n) for n in [*w] if "layers.1.feed_forward" in n or n == "lm_head.bias"])
    with refuses(
        "7 weights are missing: lm_head.bias, reformer.encoder.layers.1.feed_forward.dense.dense.bias", "1 more"
    ):
        read_transformers_folder(folder)


def test_surplus_weights_are_listed(folder: Path):
    change(folder, lambda w: w.update({"qa_outputs.weight": torch.ones(2, 2)}))
    with refuses("1 weights are surplus", "qa_outputs.weight"):
        read_transformers_folder(folder)


def test_a_config_that_does_not_fit_the_weights(folder: Path):
    configure(folder, feed_forward_size=33)
    with refuses("have other shapes than the config says", r"dense.dense.bias \[32\] for \[33\]"):
        read_transformers_folder(folder)
    configure(folder, feed_forward_size=32, attn_layers=["local", "local"])
    with refuses("2 weights are missing: .*layers.1.attention.self_attention.key.weight"):
        read_transformers_folder(folder)


def test_weights_of_two_dtypes(folder: Path):
    change(folder, lambda w: w.update({"lm_head.bias": w["lm_head.bias"].half()}))
    with refuses("one floating-point dtype, got torch.float16, torch.float64"):
        read_transformers_folder(folder)


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"model_type": "bert"}, ("expected a Reformer's config.json", "'bert'")),
        ({"hidden_act": "swish"}, ("expected hidden_act to be one of 'relu'", "got 'swish'")),
        ({"attn_layers": ["lsh", "full"]}, ("attn_layers of 'lsh' and 'local'", "full")),
        ({"num_buckets": 7}, ("describes no Reformer that can run: n_buckets must be even",)),
        ({"axial_pos_embds_dim": [4, 4]}, ("axial_dims must sum to d_model=16",)),
    ],
    ids=str,
)
def test_configs_that_are_none_of_ours(folder: Path, changes: dict, facts: tuple[str, ...]):
    configure(folder, **changes)
    with refuses(*facts):
        read_transformers_folder(folder)


def test_folders_without_a_model(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    empty = tmp_path_factory.mktemp("empty")
    assert not is_transformers_folder(empty)
    with refuses("holds no model: config.json is missing"):
        read_transformers_folder(empty)
    (folder / "model.safetensors").write_bytes(b"cut")
    with refuses("model.safetensors cannot be read as weights"):
        read_transformers_folder(folder)
    (folder / "model.safetensors").unlink()
    with refuses("holds no weights: expected one of model.safetensors"):
        read_transformers_folder(folder)
    (folder / "config.json").write_text("[1]")
    with refuses("config.json must hold a JSON object, got list"):
        read_transformers_folder(folder)
    (folder / "config.json").write_text("{")
    with refuses("config.json cannot be read as JSON"):
        read_transformers_folder(folder)


def test_an_index_that_points_out_of_the_folder(folder: Path):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with refuses("names '../other.safetensors', which is not a file beside it"):
        read_transformers_folder(folder)

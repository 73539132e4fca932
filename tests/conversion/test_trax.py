"""The authors' pickles: the same weights, nested without names."""

import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from reformer.conversion import ConversionError, convert_config, convert_weights, read_trax_pickle

from .helpers import small_config, transformers_model, trax_tree


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(small_config(attn_layers=["local", "lsh", "lsh"]).to_dict()))
    return path


@pytest.fixture
def theirs():
    return transformers_model(small_config(attn_layers=["local", "lsh", "lsh"]), torch.float32)


def save(tmp_path: Path, tree, **more) -> Path:
    path = tmp_path / "model.pkl"
    path.write_bytes(gzip.compress(pickle.dumps({"weights": tree, **more}, 4), 1))
    return path


@pytest.mark.parametrize("sliced", [False, True])
def test_every_weight_arrives(sliced: bool, theirs, config_file: Path, tmp_path: Path):
    tree = trax_tree(theirs)
    if sliced:
        for part in tree[5][2::4]:
            dense = part[0][1]
            # A feed-forward layer over slices of the sequence wraps the plain one.
            part[0][1][2][:] = [(), (), [*dense[2]], ()]
    found = read_trax_pickle(save(tmp_path, tree, step=3, slots=None), config_file)
    expected = convert_weights(convert_config(theirs.config.to_dict()), theirs.state_dict())
    assert found.weights.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(found.weights[name], weight), name


def replaced(tree, path: tuple[int, ...], value):
    """The tree with ``value`` at ``path``."""
    if not path:
        return value
    first, *rest = path
    return type(tree)(replaced(part, tuple(rest), value) if i == first else part for i, part in enumerate(tree))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ((1,), None, r"expected an array of 2 axes at weights\[1\] of the trax model, got NoneType"),
        ((9, 1), np.ones((2, 2), np.float32), r"expected an array of 1 axes at weights\[9\]\[1\].* got 2 axes"),
        ((5,), ((),) * 8, r"expected 12 parts at weights\[5\].* got 8"),
        ((5, 4, 1), (), r"expected 3 arrays at weights\[5\]\[4\]\[1\] .* 'lsh' layer, got 0; check attn_layers"),
        ((7,), (), r"expected at least 1 parts at weights\[7\]"),
        ((9, 0), np.ones((16, 50), np.float32), r"lm_head.decoder.weight \[50, 16\] for \[50, 32\]"),
    ],
)
def test_other_trees_are_refused(path, value, said: str, theirs, config_file: Path, tmp_path: Path):
    file = save(tmp_path, replaced(trax_tree(theirs), path, value))
    with pytest.raises(ConversionError, match=said) as caught:
        read_trax_pickle(file, config_file)
    assert "\n" not in str(caught.value)


def test_a_pickle_without_weights(config_file: Path, tmp_path: Path):
    (tmp_path / "other.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ConversionError, match="holds no trax model: expected a dict with 'weights'"):
        read_trax_pickle(tmp_path / "other.pkl", config_file)

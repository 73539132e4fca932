import math

import pytest
import torch

from reformer.models import ReformerConfig, ReformerLM
from reproduction.case import Place
from reproduction.experiments.experiment import SCALES
from reproduction.experiments.registry import NAMES, experiment
from reproduction.experiments.running import run_experiment
from reproduction.experiments.table2 import with_self


@pytest.mark.parametrize("name", NAMES)
def test_the_smoke_scale_runs_and_fills_every_line(name, shared_work):
    each = experiment(name)
    place = Place(work=shared_work / "work", cache_dir=shared_work / "cache", command=["reformer", "reproduce", name])
    results = shared_work / "results"
    rows = run_experiment(each, "smoke", range(1), place, results=results, notice=lambda line: None)
    assert [row["row"] for row in rows] == [case.row for case in each.cases("smoke", 0)]
    for row in rows:
        assert row["columns"]
        assert all(math.isfinite(value) for value in row["columns"].values()), row
        assert row["cost"]["seconds"] > 0
        assert row["protocol"]


@pytest.mark.parametrize("name", NAMES)
def test_every_scale_has_complete_cases_that_differ_in_nothing_but_the_seed(name):
    each = experiment(name)
    assert each.name == name
    assert set(each.seeds) <= set(SCALES)
    for scale in each.seeds:
        first, second = each.cases(scale, 0), each.cases(scale, 1)
        assert len({case.row for case in first}) == len(first)
        assert [case.config for case in first] == [case.config for case in second]
        assert {case.seed for case in second} == {1}
        assert scale in each.notes


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_numbers_belong_to_lines_and_columns_of_the_table(name):
    each = experiment(name)
    lines = {case.row for scale in each.seeds for case in each.cases(scale, 0)}
    assert {row for row, _ in each.paper} <= lines
    assert {column for _, column in each.paper} <= set(each.columns)


def test_table_2_holds_the_papers_table():
    paper = experiment("table2").paper
    assert len(paper) == 20
    assert paper["full", "lsh-1"] == 52.5
    assert paper["lsh-4", "full"] == 0.8
    assert paper["lsh-2", "lsh-2"] == 98.1
    assert paper["lsh-1", "lsh-1"] == 77.9


def test_an_unknown_experiment_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="unknown experiment 'table-2'; did you mean 'table2'"):
        experiment("table-2")


def test_with_self_only_the_token_itself_is_seen_besides():
    model = ReformerLM(ReformerConfig(vocab_size=20, d_model=16, d_ff=16, n_heads=2, attention=("full",), max_len=64))
    model.eval()
    inner = model.stack.layers[0].attention.inner
    seeing, usual = (with_self(model, usual=flag).stack.layers[0].attention.inner for flag in (False, True))
    x = torch.randn(2, 7, 16)
    q, v = (layer(x).unflatten(-1, (2, 8)).transpose(1, 2) for layer in (inner.to_q, inner.to_v))
    unit = q @ torch.nn.functional.normalize(q, dim=-1).mT
    for layer, diagonal, logits in ((inner, -1, unit), (seeing, 0, unit), (usual, 0, q @ q.mT / 8**0.5)):
        mask = torch.ones(7, 7, dtype=torch.bool).tril(diagonal)
        # The first token has nobody but itself.
        mask[0, 0] = True
        expected = logits.masked_fill(~mask, -torch.inf).softmax(-1) @ v
        expected = inner.to_out(expected.transpose(1, 2).flatten(2))
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)

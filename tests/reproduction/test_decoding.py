"""Decoders are measured by turns on the same shape, and read what is not to come."""

from importlib.util import find_spec

import pytest
from tests.reproduction.helpers import COMMON

from reproduction.benchmarks.benchmark import Bench, measure
from reproduction.benchmarks.decoding import DecodeOptions, decode_groups, with_context
from reproduction.benchmarks.shapes import SHAPES
from reproduction.benchmarks.tables import bench_table
from reproduction.rows import RowFile

needs_transformers = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")


def test_the_config_grows_with_the_context():
    base, _ = SHAPES["6-layers"]()
    config = with_context(base, 65_536, "reformer-bucket")
    assert (config.axial_shape, config.n_buckets, config.pattern) == ((256, 256), (32, 64), "bucket")
    assert config.lsh_window == 128
    assert with_context(base, 96, "transformers").axial_shape == (8, 12)


@needs_transformers
def test_both_models_decode_and_their_rows_are_kept(tmp_path):
    path, both = tmp_path / "rows.jsonl", ("reformer-trax", "transformers")
    # transformers cannot read a context that is shorter than its chunks.
    options = DecodeOptions(preset="toy", contenders=both, context=(256,), tokens=4, repeats=2)
    bench = Bench(file=RowFile(path, COMMON), device="cpu", threads=1)
    rows = measure(decode_groups(options, bench), bench.file, lambda line: None)
    assert [row["contender"] for row in rows] == list(both)
    for row in rows:
        assert row.get("not_run") is None and row["repeats"] == 2 and row["seq_len"] == 256
        assert row["tokens_per_second"] == pytest.approx(1 / row["median_s"])
    again = measure(decode_groups(options, bench), bench.file, pytest.fail)
    assert [row["median_s"] for row in again] == [row["median_s"] for row in rows]


def test_growth_is_over_the_shortest_context_of_the_same_decoder():
    shared = {
        "benchmark": "decode",
        "model": "toy",
        "batch": 1,
        "device": "cpu",
        "threads": 1,
        "dtype": "float32",
        "repeats": 1,
    }
    rows = [
        {**shared, "contender": "a", "seq_len": 64, "median_s": 2.0, "q1_s": 2.0, "q3_s": 2.0},
        {**shared, "contender": "a", "seq_len": 128, "median_s": 3.0, "q1_s": 3.0, "q3_s": 3.0},
        {**shared, "contender": "b", "seq_len": 128, "not_run": "no"},
    ]
    assert [line["growth"] for line in bench_table(rows)] == ["1.00 ×", "1.50 ×", ""]


def test_a_context_must_hold_more_than_the_tokens_to_come():
    with pytest.raises(ValueError, match="above the 256 tokens to come, got 256"):
        DecodeOptions(context=(256, 4096))
    with pytest.raises(ValueError, match="--tokens must be at least 1, got 0"):
        DecodeOptions(tokens=0)

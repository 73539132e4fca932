"""What tables and sentences say of the rows."""

import pytest
from tests.reproduction.helpers import attention_row

from reproduction.benchmarks.roofline import counted, fraction
from reproduction.benchmarks.tables import bench_table, findings
from reproduction.tables import markdown, seconds

STEP = {
    "benchmark": "model",
    "contender": "reformer",
    "model": "6-layers",
    "layers": 6,
    "reversible": True,
    "seq_len": 16_384,
    "dtype": "float32",
    "median_s": 4.0,
    "q1_s": 3.9,
    "q3_s": 4.2,
    "repeats": 5,
    "tokens_per_second": 4096.0,
    "peak_bytes": 2**30,
    "activation_bytes": 2**29,
}


@pytest.mark.parametrize(
    ("value", "said"),
    [(235.4, "235 s"), (12.34, "12.3 s"), (1.234, "1.23 s"), (0.0456, "45.6 ms"), (7.89e-5, "78.9 µs"), (0, "0.00 µs")],
)
def test_seconds_have_three_digits(value, said):
    assert seconds(value) == said


def test_speed_stands_beside_time_and_only_where_it_compares_like_with_like():
    rows = [
        attention_row("reformer", 16_384, 2.0, runs="eager", extra_bytes=2**30),
        attention_row("transformers", 16_384, 5.0),
        attention_row("sdpa", 16_384, 15.0),
        attention_row("sdpa", 16_384, 5.0, direction="forward"),
        attention_row("reformer-layer", 16_384, 3.0),
        attention_row("transformers-layer", 16_384, 6.0, n_hashes=4),
        attention_row("transformers-layer", 16_384, 9.0, n_hashes=8),
        attention_row("reformer-pytorch", 16_384, 1.0) | {"not_run": "out of memory"},
    ]
    del rows[-1]["median_s"]
    table = bench_table(rows)
    speeds = {(line["contender"], line["R"], line["direction"]): line["speed"] for line in table}
    assert speeds["reformer (eager)", "4", "forward+backward"] == "7.50 × sdpa"
    assert speeds["transformers", "4", "forward+backward"] == "3.00 × sdpa"
    assert speeds["sdpa", "", "forward+backward"] == ""
    assert speeds["reformer-layer", "4", "forward+backward"] == "2.00 × transformers-layer"
    text = markdown(table)
    assert "not run: out of memory" in text
    assert "1.0 GiB" in text
    assert "of roofline" not in text  # a column without a value is left out
    assert text.splitlines()[1].startswith("|---|")


def test_findings_compare_with_each_peer_and_tell_growth():
    rows = [attention_row("reformer", length, length / 16_384) for length in (16_384, 65_536, 262_144)]
    rows += [attention_row("transformers", 16_384, 3.0), attention_row("sdpa", 16_384, 9.0)]
    said = findings(rows)
    assert said[0] == (
        "L=16,384 B=1 R=4 float32 forward+backward: reformer is 9.00 × as fast as sdpa, 3.00 × as fast as transformers"
    )
    assert "growth, R=4 float32 forward+backward: 4 × the length, 4.00 × the time (65,536)" in said
    assert "growth, R=4 float32 forward+backward: 4 × the length, 4.00 × the time (262,144)" in said


def test_training_steps():
    failed = {name: STEP[name] for name in ("benchmark", "contender", "model", "layers", "seq_len", "dtype")}
    table = bench_table([STEP, {**failed, "reversible": False, "not_run": "no bf16 units"}])
    assert table[0]["tokens/s"] == "4,096"
    assert (table[0]["peak"], table[0]["activations"]) == ("1.0 GiB", "512 MiB")
    assert (table[1]["median"], table[1]["backward"]) == ("not run: no bf16 units", "ordinary")


def test_operations_are_those_counted_by_hand():
    # 16,384 tokens, 8 heads, 4 rounds, two chunks of 64, head size 64, 7 products: 60 GFLOP.
    flops, moved = counted(attention_row("reformer", 16_384, 1.0))
    assert flops == 7 * (16_384 * 8 * 4 * 128) * 2 * 64
    assert flops == pytest.approx(60e9, rel=0.01)
    assert moved == 4 * 9 * 16_384 * 8 * 64 * 4
    # Full attention: half of L², 14.7 s at 150 GFLOP/s would be 2.2 TFLOP for 7 products at 8 heads.
    flops, _ = counted(attention_row("sdpa", 16_384, 1.0))
    assert flops == 7 * 8 * 16_384**2 / 2 * 2 * 64
    flops, _ = counted(attention_row("sdpa", 16_384, 1.0, direction="forward"))
    assert flops == 2 * 8 * 16_384**2 / 2 * 2 * 64


def test_the_tighter_bound_makes_the_roofline():
    row = attention_row("reformer", 16_384, 1.0)
    flops, moved = counted(row)
    assert fraction(row, {"flops_per_s": 2 * flops, "bytes_per_s": 100 * moved}) == pytest.approx(0.5)
    assert fraction(row, {"flops_per_s": 100 * flops, "bytes_per_s": 4 * moved}) == pytest.approx(0.25)
    ceilings = [{"dtype": "float32", "device": "cpu", "threads": 2, "flops_per_s": 2 * flops, "bytes_per_s": 1e30}]
    assert bench_table([row], ceilings)[0]["of roofline"] == "50%"

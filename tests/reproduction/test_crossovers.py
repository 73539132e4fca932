"""The length from which on one is faster."""

from tests.reproduction.helpers import attention_row

from reproduction.benchmarks.tables import crossover, crossovers


def test_it_is_interpolated_on_logarithms_between_named_neighbours():
    lengths = (512, 1024, 2048, 4096)
    ours = {length: length / 1000 for length in lengths}
    theirs = {length: length**2 / 1_500_000 for length in lengths}
    # Two straight lines on log-log paper meet exactly.
    assert crossover(ours, theirs) == "about 1,500 tokens (slower at 1,024, faster at 2,048; interpolated)"


def test_it_may_lie_beyond_what_was_measured():
    slow, fast = {512: 2.0, 1024: 2.0}, {512: 1.0, 1024: 1.0}
    assert crossover(slow, fast) == "not up to 1,024 tokens, the longest measured"
    assert crossover(fast, slow).startswith("from 512 tokens, the shortest measured")
    assert crossover({512: 1.0}, {1024: 1.0}) is None


def test_a_single_fast_length_among_slow_ones_does_not_count():
    found = crossover({1: 1.0, 2: 0.5, 4: 2.0, 8: 1.0}, {1: 2.0, 2: 1.0, 4: 1.0, 8: 4.0})
    assert "slower at 4, faster at 8" in found


def test_each_number_of_rounds_has_its_own():
    rows = [attention_row("sdpa", length, length**2 / 1024) for length in (512, 1024, 2048)]
    for rounds in (1, 2):
        rows += [attention_row("reformer", length, length * rounds, n_hashes=rounds) for length in (512, 1024, 2048)]
    assert [line.split(": ")[1].split(" (")[0] for line in crossovers(rows)] == [
        "about 1,024 tokens",
        "not up to 2,048 tokens, the longest measured",
    ]

"""The attention benchmark: what is asked of the processes, what is skipped, and what is resumed."""

import dataclasses
from typing import ClassVar

import pytest
from tests.reproduction.helpers import COMMON

from reproduction.benchmarks.attention import AttentionOptions, attention_groups
from reproduction.benchmarks.benchmark import Bench
from reproduction.benchmarks.benchmark import measure as measure_groups
from reproduction.benchmarks.presets import ATTENTION_PRESETS, attention_preset
from reproduction.case import NotRun
from reproduction.rows import RowFile
from reproduction.tables import describe

SECONDS_A_TOKEN = {"sdpa": 0.01, "reformer": 0.001}


class FakeWorker:
    """Answers as a contender's process would, in no time."""

    asked: ClassVar[list] = []

    def __init__(self, subject, *, contender, device, threads):
        self.contender = contender

    def call(self, method, *, timeout=None, shape=None, direction=None):
        type(self).asked.append((self.contender, method, shape.seq_len, direction))
        if method == "memory":
            return {"peak_bytes": 3, "extra_bytes": 1}
        power = 2 if self.contender == "sdpa" else 1
        return SECONDS_A_TOKEN[self.contender] * (shape.seq_len / 1024) ** power * shape.batch

    def fresh(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture(autouse=True)
def _fresh():
    FakeWorker.asked = []


def measure(options, file=None, worker=FakeWorker, say=lambda line: None):
    bench = Bench(file=file or RowFile(None, COMMON), device="cpu", threads=1)
    return measure_groups(attention_groups(options, bench, worker), bench.file, say)


def groups(options):
    return attention_groups(options, Bench(file=RowFile(None, COMMON), device="cpu", threads=1), FakeWorker)


def options(**changes):
    base = AttentionOptions(contenders=("reformer", "sdpa"), seq_len=(1024, 2048), n_hashes=(1, 2), repeats=3)
    return dataclasses.replace(base, **changes)


def test_rows_hold_times_memory_and_the_implementation_that_ran():
    rows = measure(options())
    assert len(rows) == 2 * 2 * (2 + 1)  # lengths × directions × (rounds of ours, and full attention once)
    row = rows[0]
    assert (row["contender"], row["repeats"], row["warmups"]) == ("reformer", 3, 1)
    assert row["runs"] in ("eager", "native")
    assert (row["median_s"], row["extra_bytes"]) == (0.001, 1)
    assert {(row["n_hashes"], row["chunk_len"]) for row in rows if row["contender"] == "sdpa"} == {(None, None)}


def test_all_contenders_of_a_length_take_turns():
    measure(options(seq_len=(1024,), n_hashes=(1,), directions=("forward",), memory=False))
    turns = [name for name, method, *_ in FakeWorker.asked if method == "time"][2:]  # after the warm-ups
    assert [sorted(turns[index : index + 2]) for index in (0, 2, 4)] == [["reformer", "sdpa"]] * 3


def test_tokens_fix_the_product_of_batch_and_length():
    rows = measure(options(tokens=4096))
    assert {row["batch"] * row["seq_len"] for row in rows} == {4096}


def test_what_would_take_too_long_is_predicted_and_not_run():
    rows = measure(options(seq_len=(1024, 2048, 65_536), max_seconds=20.0, contenders=("sdpa",)))
    by_length = {row["seq_len"]: row for row in rows}
    assert "median_s" in by_length[2048]
    assert by_length[65_536]["not_run"] == "predicted 41 s, more than the 20 s that a row may take"
    assert 65_536 not in {length for *_, length, _ in FakeWorker.asked}


def test_a_long_input_is_probed_first():
    (row,) = measure(options(seq_len=(65_536,), max_seconds=20.0, contenders=("sdpa",), directions=("forward",)))
    assert "predicted 41 s" in row["not_run"]
    assert {length for *_, length, _ in FakeWorker.asked} == {8192}


def test_one_call_that_just_fits_is_made_once_and_says_so():
    (row,) = measure(options(seq_len=(65_536,), max_seconds=50.0, contenders=("sdpa",), directions=("forward",)))
    assert (row["repeats"], row["warmups"]) == (1, 0)
    assert "once, not warmed up" in describe(row)


def test_finished_rows_are_not_measured_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    first = measure(options(), RowFile(path, COMMON))
    lines = path.read_text().splitlines()
    # As if killed before the last row.
    path.write_text("\n".join(lines[:-1]) + "\n")
    FakeWorker.asked = []
    again = measure(options(), RowFile(path, COMMON))
    assert len({entry for entry in FakeWorker.asked if entry[1] == "memory"}) == 1
    assert [row["median_s"] for row in again] == [row["median_s"] for row in first]
    assert len(path.read_text().splitlines()) == len(lines)


def test_a_contender_out_of_memory_is_a_row_and_stops_nobody():
    class Exhausted(FakeWorker):
        def call(self, method, **arguments):
            if self.contender == "sdpa" and method == "time":
                raise NotRun("out of memory")
            return super().call(method, **arguments)

    rows = measure(options(seq_len=(1024,)), worker=Exhausted)
    assert {row["contender"] for row in rows if "median_s" in row} == {"reformer"}
    assert {row["not_run"] for row in rows if row["contender"] == "sdpa"} == {"out of memory"}


def test_a_missing_peer_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("reproduction.benchmarks.benchmark.find_spec", lambda name: None)
    rows = measure(options(contenders=("transformers", "reformer-pytorch"), seq_len=(1024,), n_hashes=(1,)))
    assert {row["not_run"] for row in rows} == {
        "transformers is not installed: pip install -e '.[reproduction]'",
        "reformer-pytorch is not installed: pip install -e '.[reproduction]'",
    }


def test_what_cannot_run_here_says_why():
    (row,) = measure(options(contenders=("sdpa-flash",), seq_len=(1024,), n_hashes=(1,), directions=("forward",)))
    assert row["not_run"] == "needs a CUDA device"


@pytest.mark.parametrize("name", ATTENTION_PRESETS)
def test_every_preset_has_entries_and_says_what_it_is(name):
    preset = attention_preset(name)
    assert preset.preset == name
    assert all(list(groups(preset)))
    assert ATTENTION_PRESETS[name][0]


def test_the_million_is_the_papers():
    million = attention_preset("1m")
    assert (million.seq_len, million.n_heads, million.head_dim) == ((1_048_576,), 2, (64,))
    assert (million.n_hashes, million.n_buckets) == ((1,), (128, 128))


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match=r"unknown contender 'sdpaa'; did you mean 'sdpa'\?"):
        options(contenders=("sdpaa",))
    with pytest.raises(ValueError, match="--tokens must be at least the longest length, 2048, got 1024"):
        options(tokens=1024)
    with pytest.raises(ValueError, match="--directions must be of forward"):
        options(directions=("backward",))
    with pytest.raises(ValueError, match="--dtype must be of float32"):
        options(dtype=("float31",))


def test_processes_end_even_if_measuring_fails():
    closed = []

    class Closing(FakeWorker):
        def call(self, method, **arguments):
            raise ZeroDivisionError

        def __exit__(self, *_):
            closed.append(self.contender)

    with pytest.raises(ZeroDivisionError):
        measure(options(), worker=Closing)
    assert sorted(closed) == ["reformer", "sdpa"]

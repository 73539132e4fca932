"""Rows survive a kill, are found again, and the later of two counts."""

import json

import pytest
from tests.bench.helpers import COMMON, attention_row

from reformer.bench.rows import RowFile, latest
from reformer.training.rows import read_rows

WHAT = {"benchmark": "attention", "contender": "sdpa", "seq_len": 1024, "batch": 2, "n_buckets": (4, 8)}
TIME = {"median_s": 1.0}


def test_a_row_is_found_again_by_another_run(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    RowFile(path, COMMON).add(WHAT, TIME)
    again = RowFile(path, COMMON)
    assert again.finished(WHAT)["median_s"] == 1.0
    assert again.finished({**WHAT, "seq_len": 2048}) is None
    assert RowFile(path, {**COMMON, "code": {"commit": "other"}}).finished(WHAT) is None
    assert RowFile(path, {**COMMON, "hardware": {"cpu": "another", "gpus": []}}).finished(WHAT) is None


def test_what_was_not_run_is_tried_again_but_not_what_ran_out_of_memory(tmp_path):
    file = RowFile(tmp_path / "rows.jsonl", COMMON)
    file.add(WHAT, {"not_run": "predicted 200 s"})
    assert file.finished(WHAT) is None
    file.add(WHAT, {"not_run": "out of memory: killed by the system"})
    assert file.finished(WHAT) is not None


def test_a_line_torn_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "rows.jsonl"
    RowFile(path, COMMON).add(WHAT, TIME)
    with path.open("a") as file:
        file.write('{"benchmark": "atten')
    file = RowFile(path, COMMON)
    assert file.finished(WHAT) is not None
    file.add({**WHAT, "seq_len": 2048}, TIME)
    assert [json.loads(line)["seq_len"] for line in path.read_text().splitlines()] == [1024, 2048]


def test_a_damaged_line_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\nnonsense\n{"a": 2}\n')
    with pytest.raises(ValueError, match="line 2: not a row"):
        read_rows(path)


def test_history_is_seconds_a_sequence_by_length():
    file = RowFile(None, COMMON)
    file.add(WHAT, {"median_s": 4.0})
    file.add({**WHAT, "seq_len": 4096, "batch": 1, "n_buckets": None}, {"median_s": 9.0})
    file.add({**WHAT, "contender": "reformer"}, {"median_s": 1.0})
    assert file.history(WHAT) == [(1024, 2.0), (4096, 9.0)]


def test_the_later_of_two_rows_counts_whatever_the_commit():
    first, other = attention_row("sdpa", 1024, 1.0), attention_row("sdpa", 2048, 3.0)
    second = attention_row("sdpa", 1024, 2.0, code={"commit": "later", "dirty": False})
    assert [row["median_s"] for row in latest([first, other, second])] == [2.0, 3.0]

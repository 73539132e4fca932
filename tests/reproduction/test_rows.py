"""Rows survive a kill, are found again, and the later of two counts."""

import json
import subprocess
import sys

import pytest
from tests.reproduction.helpers import COMMON, attention_row

from reproduction.rows import RowFile, append_line, latest, read_rows

WHAT = {"benchmark": "attention", "contender": "sdpa", "seq_len": 1024, "batch": 2, "n_buckets": (4, 8)}
TIME = {"median_s": 1.0}


def test_a_row_is_found_again_by_another_run(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    RowFile(path, COMMON).add(WHAT | TIME)
    again = RowFile(path, COMMON)
    assert again.finished(WHAT)["median_s"] == 1.0
    assert again.finished({**WHAT, "seq_len": 2048}) is None
    assert RowFile(path, {**COMMON, "code": {"commit": "other"}}).finished(WHAT) is None
    assert RowFile(path, {**COMMON, "hardware": {"cpu": "another", "gpus": []}}).finished(WHAT) is None


def test_what_was_not_run_is_tried_again_but_not_what_ran_out_of_memory(tmp_path):
    file = RowFile(tmp_path / "rows.jsonl", COMMON)
    file.add(WHAT | {"not_run": "predicted 200 s"})
    assert file.finished(WHAT) is None
    file.add(WHAT | {"not_run": "out of memory: killed by the system"})
    assert file.finished(WHAT) is not None


def test_a_line_torn_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "rows.jsonl"
    RowFile(path, COMMON).add(WHAT | TIME)
    with path.open("a") as file:
        file.write('{"benchmark": "atten')
    file = RowFile(path, COMMON)
    assert file.finished(WHAT) is not None
    file.add({**WHAT, "seq_len": 2048} | TIME)
    assert [json.loads(line)["seq_len"] for line in path.read_text().splitlines()] == [1024, 2048]


@pytest.mark.parametrize("damaged", [b"nonsense", b"7", b"[1]", b'{"a": "\xff"}'])
def test_a_damaged_line_is_refused_but_for_a_torn_last_one(tmp_path, damaged):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + damaged + b'\n{"a": 2}\n')
    with pytest.raises(ValueError, match="line 2: not a row"):
        read_rows(path)
    path.write_bytes(b'{"a": 1}\n' + damaged)
    assert read_rows(path) == [{"a": 1}]
    append_line(path, '{"a": 3}')
    assert read_rows(path) == [{"a": 1}, {"a": 3}]


def test_a_last_row_without_its_line_break_is_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}')
    append_line(path, '{"a": 3}')
    assert path.read_bytes() == b'{"a": 1}\n{"a": 2}\n{"a": 3}\n'


def test_processes_that_append_at_the_same_time_lose_no_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    code = (
        "import sys; from pathlib import Path; from reproduction.rows import append_line\n"
        'for index in range(100): append_line(Path(sys.argv[1]), f\'{{"from": "{sys.argv[2]}", "n": {index}}}\')'
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    rows = read_rows(path)
    for name in "ab":
        assert [row["n"] for row in rows if row["from"] == name] == list(range(100))


def test_the_later_of_two_rows_counts_whatever_the_commit():
    first, other = attention_row("sdpa", 1024, 1.0), attention_row("sdpa", 2048, 3.0)
    second = attention_row("sdpa", 1024, 2.0, code={"commit": "later", "dirty": False})
    assert [row["median_s"] for row in latest([first, other, second])] == [2.0, 3.0]

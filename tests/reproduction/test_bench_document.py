"""A document's blocks are filled from rows, and nothing else in it changes."""

import json

import pytest
from tests.reproduction.helpers import attention_row
from tests.reproduction.test_bench_tables import STEP

from reproduction.benchmarks.document import BLOCKS, write_report

LENGTHS = (1024, 2048, 4096)


def document(tmp_path, *names):
    path = tmp_path / "doc.md"
    path.write_text(
        "before\n" + "".join(f"<!-- bench:{name} -->\nold\n<!-- /bench:{name} -->\nbetween\n" for name in names)
    )
    return path


def write_rows(tmp_path, rows):
    folder = tmp_path / "results"
    folder.mkdir()
    # Other data may lie in the same folder.
    (folder / "other.jsonl").write_text('{"task": "duplication"}\n')
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_blocks_are_filled_and_plots_drawn(tmp_path):
    rows = [attention_row("sdpa", length, length**2 / 1e6) for length in LENGTHS]
    rows += [attention_row("reformer", length, length / 1e3, n_hashes=r) for length in LENGTHS for r in (1, 2)]
    more = {name: rows[0][name] for name in ("hardware", "software", "code", "date")}
    rows += [{**STEP, **more}, {**STEP, **more, "benchmark": "memory"}]
    rows.append({**STEP, **more, "benchmark": "decode", "batch": 1, "device": "cpu", "threads": 2})
    ceilings = {"benchmark": "ceilings", "device": "cpu", "threads": 2, "dtype": "float32"}
    rows.append({**ceilings, **more, "flops_per_s": 2e11, "bytes_per_s": 2**34})
    path = document(tmp_path, *BLOCKS)
    written = write_report(write_rows(tmp_path, rows), path, tmp_path / "plots")
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.count("between") == len(BLOCKS)
    assert "old" not in text
    assert "Not measured yet" not in text
    for words in (
        "| 1,024 |",
        "crossover with sdpa",
        "4,096",
        "200 GFLOP/s",
        "a cpu, 2 threads",
        "](plots/attention-cpu",
    ):
        assert words in text
    assert written[0] == path
    assert all(file.stat().st_size > 1000 for file in written[1:])
    assert len(written) == 2
    # Again: the same document.
    write_report(tmp_path / "results", path, tmp_path / "plots")
    assert path.read_text() == text


def test_a_fixed_number_of_tokens_is_figure_5(tmp_path):
    rows = [
        attention_row(name, length, 1.0 + (name == "sdpa") * length / 1e3, batch=4096 // length)
        for length in LENGTHS
        for name in ("reformer", "sdpa", "transformers")
    ]
    written = write_report(write_rows(tmp_path, rows), document(tmp_path, "plots"), tmp_path / "plots")
    assert [file.name for file in written[1:]] == ["figure5-cpu-float32-8x64-4096.png"]


def test_without_rows_it_says_so(tmp_path):
    path = document(tmp_path, *BLOCKS)
    write_report(write_rows(tmp_path, []), path, tmp_path / "plots")
    assert path.read_text().count("Not measured yet.") == len(BLOCKS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- bench:models -->\n<!-- /bench:models -->", "unknown block bench:models; blocks: summary, attention"),
        ("<!-- bench:model -->\nno end", "needs its <!-- /bench:NAME -->"),
        ("<!-- bench:model -->\n<!-- /bench:memory -->", "needs its <!-- /bench:NAME -->"),
    ],
)
def test_damaged_blocks_are_refused(text, said, tmp_path):
    path = tmp_path / "doc.md"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        write_report(write_rows(tmp_path, []), path, tmp_path / "plots")
    assert path.read_text() == text

"""`reformer bench` as a user meets it."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from reformer.cli.main import main
from reproduction.benchmarks.presets import ATTENTION_PRESETS
from reproduction.benchmarks.shapes import SHAPES

ROOT = Path(__file__).parents[2]
FAST = ["--device", "cpu", "--threads", "1"]


def run(capsys, *arguments):
    capsys.readouterr()
    code = main(["bench", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_attention_measures_prints_and_resumes(capsys, tmp_path):
    out = tmp_path / "rows.jsonl"
    arguments = ["attention", "--preset", "toy", "--contenders", "reformer", "sdpa", "--seq-len", 128, 256, *FAST]
    code, table, progress = run(capsys, *arguments, "--no-memory", "--roofline", "--out", out)
    assert code == 0
    assert progress.startswith("correct against the definition")
    assert re.search(r"^ *256 +1 +2 +32 +float32 +forward\+backward +reformer \(\w+\)", table, re.MULTILINE)
    assert re.search(r"crossover with sdpa, forward\+backward, R=1, chunk 32, float32: ", table)
    assert "of roofline" in table
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 1 + 2 * 2 * 3
    for field in ("median_s", "q1_s", "q3_s", "repeats", "date", "code", "software", "hardware", "command", "timed"):
        assert field in rows[-1]
    assert rows[-1]["software"]["transformers"]
    assert rows[-1]["command"].startswith("reformer bench attention --preset toy")
    code, again, progress = run(capsys, *arguments, "--no-memory", "--roofline", "--out", out)
    assert again == table
    assert len(progress.splitlines()) == 1
    assert len(out.read_text().splitlines()) == len(rows)


def test_options_beside_a_preset_change_it(capsys):
    code, table, _ = run(
        capsys,
        *("attention", "--preset=toy", "--contenders", "reformer", "--seq-len", 64, "--n-hashes", 1),
        *("--directions", "forward", *FAST),
    )
    assert code == 0
    title, names, row = table.strip().splitlines()
    assert title.startswith("our attention beside")
    assert names.split()[-1] == "memory"


def test_a_whole_training_step_and_its_memory(capsys):
    code, table, _ = run(
        capsys, "model", "--preset", "toy", "--contenders", "reformer", "--dtype", "float32", "--repeats", 1, *FAST
    )
    assert code == 0
    assert "tokens/s" in table
    code, table, _ = run(capsys, "memory", "--preset", "toy", "--layers", 1, "--reversible", "False", *FAST)
    assert code == 0
    assert re.search(r"toy +1 +ordinary +256", table)


def test_the_report_fills_the_document(capsys, tmp_path):
    document = tmp_path / "doc.md"
    document.write_text("<!-- bench:model -->\n<!-- /bench:model -->\n")
    (tmp_path / "rows.jsonl").write_text("")
    code, out, _ = run(capsys, "report", "--rows", tmp_path / "rows.jsonl", "--document", document)
    assert code == 0
    assert out.splitlines() == [str(document)]
    assert "Not measured yet." in document.read_text()


def test_help_names_benchmarks_and_presets(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(name in out for name in ("attention", "model", "memory", "report"))
    for benchmark, presets in (("attention", ATTENTION_PRESETS), ("model", SHAPES), ("memory", SHAPES)):
        with pytest.raises(SystemExit) as stopped:
            main(["bench", benchmark, "--help"])
        assert stopped.value.code == 0
        out = capsys.readouterr().out
        assert all(f"{name}: " in out for name in presets)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["atention"], "unknown benchmark 'atention'; benchmarks: attention, model"),
        (["attention", "--preset", "figure"], "unknown preset 'figure'; did you mean 'figure5'"),
        (["model", "--preset", "1mm"], "unknown preset '1mm'; did you mean '1m'"),
        (["memory", "--preset", "2m"], "unknown preset '2m'.*presets: 6-layers, enwik8, 1m"),
        (["attention", "--contenders", "flash"], "unknown contender 'flash'"),
        (["model", "--contenders", "trax"], "unknown contender 'trax'; contenders: reformer, transformers"),
        (["attention", "--length", "3"], "unknown option --length"),
        (["attention", "--seq-len", "1024", "0"], "--seq-len must be at least 1, got 0"),
        (["attention", "--preset", "toy", "--batch", "-1"], "--batch must be at least 1, got -1"),
        (["attention", "--preset", "toy", "--device", "tpu"], "--device must be auto, cpu or cuda, got 'tpu'"),
        (["report", "--document", "{folder}/none.md"], "No such file"),
    ],
)
def test_bad_input_is_one_line(arguments, said, capsys, tmp_path):
    code, out, err = run(capsys, *(argument.format(folder=tmp_path) for argument in arguments))
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(said, err), err


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse_and_say_how_they_are_used(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    said = subprocess.run(["bash", str(script)], capture_output=True, text=True)
    assert said.returncode == 2
    assert said.stderr.startswith(f"usage: benchmarks/{script.name}")


@pytest.mark.parametrize("file", ["benchmarks/cpu.sh", "benchmarks/gpu.sh", "docs/benchmarks.md"])
def test_scripts_and_documents_name_presets_that_exist(file):
    text = (ROOT / file).read_text()
    named = re.findall(r"attention --preset ([\w-]+)", text)
    named += (
        re.findall(r"for preset in ([\w -]+); do\n.*bench attention", text)[0].split() if "for preset" in text else []
    )
    assert set(named) <= set(ATTENTION_PRESETS)
    assert set(re.findall(r"(?:model|memory) --preset ([\w-]+)", text)) <= set(SHAPES)
    assert named

"""The command line as a user meets it: the main job, help, and one clear line for each kind of bad input."""

import importlib.metadata
import io
import json
import subprocess
import sys
import time

import pytest
import torch
from tests.training.runs import TINY_FLAGS, write_text

from reformer.cli.generate_command import stream_utf8
from reformer.cli.main import COMMANDS, main
from reformer.ops import choose_implementation
from reformer.tasks.registry import RECIPES, config_from_dict, recipe


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of one command line, in this process."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def helped(capsys, *arguments):
    """The help of one command line."""
    capsys.readouterr()
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        code = stopped.code
    said = capsys.readouterr()
    assert code == 0 and said.err == ""
    return said.out


def train(capsys, folder, *more):
    data = folder / "text.txt"
    if not data.exists():
        write_text(folder)
    common = ["--data", data, "--out", folder / "run", "--cache-dir", folder / "cache"]
    return run(capsys, "train", "quickstart", *common, *TINY_FLAGS, *more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished tiny run, shared by the tests that only read it."""
    folder = tmp_path_factory.mktemp("trained")
    write_text(folder)
    common = ["--data", folder / "text.txt", "--out", folder / "run", "--cache-dir", folder / "cache"]
    assert main([str(a) for a in ("train", "quickstart", *common, *TINY_FLAGS)]) == 0
    return folder


def test_the_main_job_end_to_end(trained, capsys):
    directory = trained / "run"
    for file in ("card.md", "card.json", "metrics.jsonl", "config.json", "plots/loss.png"):
        assert (directory / file).stat().st_size > 0
    assert list((directory / "tensorboard").iterdir())

    code, out, _ = run(capsys, "eval", directory, "--n-hashes", "1,2", "--limit", 500, "--cache-dir", trained / "cache")
    assert code == 0
    for word in ("lsh-1", "lsh-2", "gzip -9", "bzip2 -9", "xz -9e", "windows of 64", "no carried context"):
        assert word in out
    rows = json.loads((directory / "eval.json").read_text())
    assert {(row["split"], row["variant"]) for row in rows} >= {("test", "lsh-1"), ("validation", "lsh-2")}
    card = json.loads((directory / "card.json").read_text())
    assert {"bits per byte (lsh-1)", "bits per byte (gzip -9)"} <= {result["metric"] for result in card["results"]}
    assert card["data"]["splits"] == {"train": 18000, "validation": 1000, "test": 1000}
    assert card["setup"]["command"][:3] == ["reformer", "train", "quickstart"]

    code, again, _ = run(
        capsys, "eval", directory, "--n-hashes", "1,2", "--limit", 500, "--cache-dir", trained / "cache"
    )
    assert again == out  # the same measurement gives the same numbers ...
    assert len(json.loads((directory / "eval.json").read_text())) == len(rows)  # ... and is kept once

    options = ["--prompt", "line ", "--n-bytes", 40, "--seed", 3]
    code, out, _ = run(capsys, "generate", directory, *options)
    assert code == 0
    assert out.startswith("line ")
    assert len(out) > len("line \n")
    assert run(capsys, "generate", directory, *options)[1] == out

    letter = next(c for c in out[len("line ") :] if c.isascii() and c.isalnum())
    code, stopped, _ = run(capsys, "generate", directory, *options, "--stop", letter, "never")
    assert code == 0
    assert stopped == out[: out.index(letter, len("line ")) + 1] + "\n"
    code, best, _ = run(capsys, "generate", directory, *options, "--num-beams", 3)
    assert code == 0
    assert best.startswith("line ") and run(capsys, "generate", directory, *options, "--num-beams", 3)[1] == best


def test_evaluation_with_overlap_gives_context(trained, capsys):
    code, out, _ = run(capsys, "eval", trained / "run", "--overlap", 32, "--limit", 300, "--splits", "test")
    assert code == 0
    assert "with 32 bytes of context" in out
    assert "validation" not in out


def test_duplication_is_evaluated_under_every_attention(tmp_path, capsys):
    flags = (
        "--seq-len 16 --batch-size 2 --steps 2 --eval-sequences 4 --model.d-model 16 --model.d-ff 16 --model.n-heads 2"
    )
    assert run(capsys, "train", "duplication", "--out", tmp_path / "run", *flags.split())[0] == 0
    code, out, _ = run(capsys, "eval", tmp_path / "run", "--limit", 4)
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[1:6]] == ["full", "lsh-8", "lsh-4", "lsh-2", "lsh-1"]
    assert "|w| = 7" in out


def test_needles_in_text_are_evaluated_on_sequences_of_both_splits(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("Once upon a time. " * 600)
    flags = (
        "--seq-len 32 --batch-size 2 --steps 2 --eval-sequences 4 --model.d-model 16 --model.d-ff 16 --model.n-heads 2"
    )
    folders = ["--out", tmp_path / "run", "--data", tmp_path / "text.txt", "--cache-dir", tmp_path / "cache"]
    assert run(capsys, "train", "recall", *folders, *flags.split())[0] == 0
    code, out, _ = run(capsys, "eval", tmp_path / "run", "--cache-dir", tmp_path / "cache")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[1:3]] == [
        ["validation", "as-trained"],
        ["test", "as-trained"],
    ]
    assert out.splitlines()[3].startswith(
        "protocol: 256 fresh sequences of 32, facts asked again, text of the test split"
    )
    assert "a guess costs log2(64) = 6 bits" in out


def test_the_demo_trains_evaluates_samples_and_says_where_things_are(tmp_path, capsys, monkeypatch):
    import dataclasses

    from tests.training.runs import TINY

    small = dataclasses.replace(TINY, data="stdlib", name="quickstart", steps=2, accumulate=1)
    small = dataclasses.replace(small, seq_len=512, model=dataclasses.replace(small.model, axial_shape=(16, 32)))
    monkeypatch.setitem(RECIPES, "quickstart", lambda: small)
    arguments = ["demo", "--out", tmp_path / "run", "--cache-dir", tmp_path / "cache"]
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    for word in ("1/3", "as-trained", "gzip -9", "3/3", "def parse_header", "card.md", "next, your own text"):
        assert word in out
    # Run again it neither trains again nor fails.
    assert run(capsys, *arguments)[0] == 0


BAD_INPUT = {
    "missing file": (["train", "quickstart", "--data", "{folder}/txt.text"], "no file or folder .*txt.text"),
    "empty file": (["train", "quickstart", "--data", "{folder}/empty"], "empty"),
    "file shorter than the window": (
        ["train", "quickstart", "--data", "{folder}/text.txt", "--seq-len", "19000", "--model.positions", "none"],
        "18,000 bytes.*19,000",
    ),
    "unknown recipe": (["train", "quickstrat"], "unknown recipe 'quickstrat'.*did you mean 'quickstart'.*duplication"),
    "no recipe": (["train", "--steps", "3"], "name the recipe first"),
    "unknown override": (
        ["train", "quickstart", "--model.n-hash", "3"],
        "unknown option --model.n-hash.*--model.n-hashes",
    ),
    "override without its room": (
        ["train", "quickstart", "--n-hashes", "3"],
        "unknown option --n-hashes.*--model.n-hashes",
    ),
    "override of the wrong type": (["train", "quickstart", "--steps", "many"], "--steps.*'many'"),
    "n_buckets odd": (["train", "quickstart", "--model.n-buckets", "7"], "n_buckets must be even.*got 7.*6 and 8"),
    "heads times head_dim": (
        ["train", "quickstart", "--model.n-heads", "4", "--model.head-dim", "32"],
        r"n_heads × head_dim must be.*192.*4 × 32 = 128",
    ),
    "width not divisible": (["train", "quickstart", "--model.n-heads", "5"], "n_heads × head_dim.*192.*n_heads=5"),
    "beyond the axial shape": (
        ["train", "quickstart", "--seq-len", "5000", "--model.positions", "axial"],
        r"length 5000 is beyond the 4096 positions of axial_shape \(64, 64\)",
    ),
    "beyond the longest input": (
        ["train", "quickstart", "--seq-len", "70000", "--model.positions", "rotary"],
        "70000 is beyond the 4096 positions of max_len",
    ),
    "unknown attention": (
        ["train", "quickstart", "--model.attention", "sparse"],
        "'lsh', 'local', 'full', got 'sparse'",
    ),
    "a device that is not there": (
        ["train", "quickstart", "--data", "{folder}/text.txt", "--seq-len", "64", "--device", "xpu:7"],
        r"device 'xpu:7' cannot be used here \(.+\); use auto or cpu",
    ),
    "data for made sequences": (
        ["train", "duplication", "--data", "{folder}/text.txt"],
        "unknown option --data; reformer train duplication --help explains those that fit: .*--seq-len",
    ),
    "generate: unknown checkpoint": (
        ["generate", "{run}", "--checkpoint", "newest"],
        "--checkpoint must be latest or best, got 'newest'",
    ),
    "eval: a folder of runs": (["eval", "{folder}"], "holds no run .*; runs in it: .*run"),
    "bad optimizer": (["train", "quickstart", "--optimizer.name", "sgd"], "optimizer.name must be one of"),
    "unknown command": (["trian"], "unknown command 'trian'.*did you mean 'train'"),
    "no such run": (["eval", "{folder}/nothing"], "holds no run"),
    "eval of unknown split": (["eval", "{run}", "--splits", "dev"], "unknown split 'dev'.*validation"),
    "eval of bad rounds": (["eval", "{run}", "--n-hashes", "1,x"], "positive numbers separated by commas"),
    "eval of unknown attention": (["eval", "{run}", "--attention", "dense"], "unknown attention 'dense'"),
    "eval overlap too large": (["eval", "{run}", "--overlap", "64"], "below the window of 64"),
    "prompt too long": (
        ["generate", "{run}", "--prompt", "x" * 100],
        "prompt of 100 bytes.*longest input, 64; shorten",
    ),
    "bad temperature": (["generate", "{run}", "--temperature", "-1"], "temperature must be at least 0"),
    "no beams": (["generate", "{run}", "--n-bytes", "3", "--num-beams", "0"], "num_beams must be at least 1, got 0"),
    "empty stop string": (["generate", "{run}", "--n-bytes", "3", "--stop", ""], "at least one byte"),
    "bad penalty": (["generate", "{run}", "--repetition-penalty", "0"], "repetition_penalty must be above 0"),
    "enwik8 of wrong content": (
        ["data", "enwik8", "--file", "{folder}/text.txt", "--cache-dir", "{folder}/none"],
        "100,000,000",
    ),
    "enwik8 not prepared": (["train", "enwik8-64k-3l", "--cache-dir", "{folder}/none"], "reformer data enwik8"),
    "eval without its run": (["eval", "--limit", "500"], "name the run first: reformer eval RUN --limit"),
    "eval of nothing": (["eval"], "name the run first: reformer eval RUN"),
    "eval of half a sequence": (["eval", "{run}", "--limit", "half"], "--limit takes INT, got 'half'"),
    "an option of translations": (
        ["eval", "{run}", "--num-beams", "4"],
        "unknown option --num-beams; .*fit: .*--overlap",
    ),
    "an average of the best": (
        ["eval", "{run}", "--average", "2", "--checkpoint", "best"],
        "leave --checkpoint best or",
    ),
    "generate: neither run nor folder": (["generate", "--prompt", "x"], "give either the folder of a run or --hf"),
    "generate: a run and a folder": (
        ["generate", "{run}", "--hf", "{folder}"],
        "give either the folder of a run or --hf",
    ),
    "env with arguments": (["env", "now"], "reformer env takes no 'now'"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_clear_line_and_exit_code_2(case, trained, capsys, tmp_path, monkeypatch):
    import re

    monkeypatch.chdir(tmp_path)
    (trained / "empty").touch()
    arguments, expected = BAD_INPUT[case]
    filled = [argument.format(folder=trained, run=trained / "run") for argument in arguments]
    if arguments[:1] == ["train"] and "--cache-dir" not in arguments and len(arguments) > 2:
        filled += ["--cache-dir", str(trained / "cache")]
    code, out, err = run(capsys, *filled)
    assert code == 2
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    assert re.search(expected, err), err
    assert out == ""
    assert not list(tmp_path.glob("runs/*/checkpoints/*"))


def test_help_answers_within_a_second_and_lists_the_recipes():
    began = time.perf_counter()
    result = subprocess.run([sys.executable, "-m", "reformer.cli.main", "--help"], capture_output=True, text=True)
    assert time.perf_counter() - began < 1.0
    assert result.returncode == 0
    assert "generate" in result.stdout
    loaded = (
        "import sys, reformer.cli.main as m; m.main(['--help']); m.main(['--version']); "
        "print([name for name in ('torch', 'numpy', 'tyro', 'rich', 'importlib.metadata') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]"


OWN = [name for name, (_, module) in COMMANDS.items() if module is not None]
MEASURING = [name for name in COMMANDS if name not in OWN]


@pytest.mark.parametrize("command", OWN)
def test_every_command_has_help(command, capsys):
    assert f"reformer {command}" in helped(capsys, command, "--help")


@pytest.mark.parametrize("command", OWN)
def test_an_unknown_option_is_one_line_in_every_command(command, trained, capsys):
    first = {"train": ["quickstart"], "convert": ["a", "b"], "data": ["stdlib"], "demo": [], "env": []}
    code, out, err = run(capsys, command, *first.get(command, [trained / "run"]), "--not-an-option", "3")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: unknown option --not-an-option; ")


@pytest.mark.parametrize("command", MEASURING)
def test_a_command_that_is_not_installed_says_how_to_get_it(command, capsys, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **which: ())
    for arguments in ([], ["--help"], ["--scale", "smoke"]):
        code, out, err = run(capsys, command, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"error: reformer {command} measures, and is not part of the library")
        assert "pip install -c constraints.txt -e '.[train,reproduction]' -e ./reproduction" in err


def test_a_command_of_another_distribution_is_found_by_its_entry_point(capsys, monkeypatch):
    def entry_points(group, name):
        assert group == "reformer.commands"
        return [importlib.metadata.EntryPoint(name=name, group=group, value=f"{__name__}:other_command")]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert run(capsys, "bench", "attention", "--preset", "toy") == (0, "attention --preset toy\n", "")
    assert run(capsys, "report", "fail") == (1, "fail\n", "")


def other_command(arguments):
    print(*arguments)
    return int(arguments == ["fail"])


def test_help_about_runs_lists_the_options_that_fit(trained, capsys):
    by_task = {
        line.split()[0]: line.split()[1:] for line in helped(capsys, "eval", "--help").splitlines() if "  --" in line
    }
    assert {"--checkpoint", "--average", "--cache-dir"} <= set(by_task["any"])
    assert "--overlap" in by_task["text"] and "--overlap" not in by_task["images"]
    assert "--num-beams" in by_task["translation"] and "--num-beams" not in by_task["text"]
    shown = helped(capsys, "eval", trained / "run", "--help")
    assert "--overlap" in shown and "--checkpoint" in shown and "--num-beams" not in shown
    assert "--hf FOLDER" in helped(capsys, "generate", "--help")
    assert "--top-k" in helped(capsys, "generate", trained / "run", "--help")


def test_an_average_of_checkpoints_is_evaluated_and_sampled(trained, capsys):
    options = ["--average", 2, "--limit", 300, "--splits", "test", "--cache-dir", trained / "cache"]
    code, out, _ = run(capsys, "eval", trained / "run", *options)
    assert code == 0 and "mean of the checkpoints of steps 10, 12" in out
    code, out, _ = run(capsys, "generate", trained / "run", "--average", 2, "--prompt", "line", "--n-bytes", 3)
    assert code == 0 and out.startswith("line")


def test_train_help_lists_recipes_and_every_override(capsys):
    out = helped(capsys, "train", "--help")
    assert all(name in out for name in RECIPES)
    out = helped(capsys, "train", "quickstart", "--help")
    for flag in ("--data", "--out", "--resume", "--model.n-hashes", "--optimizer.lr", "--seq-len"):
        assert flag in out


def test_the_ops_import_nothing_they_do_not_need():
    code = (
        "import sys, reformer.ops; "
        "print(sorted(m for m in ('transformers', 'tyro', 'matplotlib', 'rich', 'tensorboard', 'zstandard') if m in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_env_reports_the_machine(capsys):
    code, out, _ = run(capsys, "env")
    assert code == 0
    report = json.loads(out)
    assert report["software"]["torch"]
    assert report["lsh_attention"]["cpu"].startswith(choose_implementation("auto", torch.device("cpu")).name)


def test_data_prints_splits_and_checksums(tmp_path, capsys):
    write_text(tmp_path)
    code, out, _ = run(capsys, "data", tmp_path / "text.txt", "--cache-dir", tmp_path / "cache")
    assert code == 0
    assert "18,000 bytes" in out
    assert "sha256" in out


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_valid_complete_config(name):
    config = recipe(name)
    assert config.name == name
    assert config_from_dict(json.loads(json.dumps(config.as_dict()))) == config


def test_the_paper_recipes_are_the_papers():
    three, twelve = recipe("enwik8-64k-3l"), recipe("enwik8-64k-12l")
    assert (three.seq_len, three.batch_size * three.accumulate) == (65_536, 8)
    assert three.model.attention == ("lsh",) * 3
    assert twelve.model.attention == ("lsh",) * 12
    model = three.model
    assert (model.d_model, model.d_ff, model.n_heads, model.d_attn, model.lsh_chunk_len) == (1024, 4096, 8, 512, 128)
    assert (three.optimizer.name, three.optimizer.lr, three.optimizer.warmup_steps) == ("adafactor", 2.0, 8000)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_streaming_is_always_valid_utf8():
    stream = io.StringIO()
    stream_utf8((bytes([byte]) for byte in "é→".encode() + b"\xffa\xe2\x86"), stream)
    assert stream.getvalue() == "é→\ufffda\ufffd"
    terminal = Terminal()
    stream_utf8([b"\x1b[2Jok\n\t"], terminal)
    assert terminal.getvalue() == "\\x1b[2Jok\n\t"


def test_generate_writes_utf8_whatever_the_locale(trained):
    command = [
        sys.executable,
        "-m",
        "reformer.cli.main",
        "generate",
        str(trained / "run"),
        "--prompt",
        "é",
        "--n-bytes",
        "4",
    ]
    result = subprocess.run(
        command, capture_output=True, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PATH": "/usr/bin:/bin"}
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.decode().startswith("é")

"""``reformer inspect`` as a user meets it: every kind of run, its files, its page, and one clear line for bad input."""

import io
import json
import re
from html.parser import HTMLParser

import pytest
import torch
from tests.cli.test_commands import run
from tests.training.runs import TINY_FLAGS, write_text

from reformer.cli.inspect_command import print_table
from reformer.cli.main import main
from reformer.inspection import inspect_model
from reformer.training.run_directory import load_trained

KINDS = {
    "text": ["quickstart", "--model.attention", "local", "lsh", "full"],
    "masked": ["quickstart", "--objective", "masked", "--model.no-causal"],
    "full": ["quickstart", "--model.attention", "full"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Tiny runs of two steps: KINDS over one text, and duplication."""
    folder = tmp_path_factory.mktemp("inspected")
    write_text(folder)
    common = ["--data", folder / "text.txt", "--cache-dir", folder / "cache", *TINY_FLAGS, "--steps", 2]
    for name, flags in KINDS.items():
        assert main([str(a) for a in ("train", flags[0], "--out", folder / name, *common, *flags[1:])]) == 0
    small = (
        "--seq-len 16 --batch-size 2 --steps 2 --eval-sequences 4 --model.d-model 16 --model.d-ff 16 --model.n-heads 2"
    )
    assert main(["train", "duplication", "--out", str(folder / "duplication"), *small.split()]) == 0
    return folder


class Page(HTMLParser):
    """What a page would fetch, and the words of its cells."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.open, self.cells = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.fetched += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


def test_a_text_run_end_to_end(runs, capsys):
    code, out, err = run(capsys, "inspect", runs / "text", "--n-hashes", "1,4", "--n-windows", 2, "--seed", 3)
    assert code == 0
    assert "2 validation window(s) of 64 tokens" in out and "128 queries" in out
    assert "window 2 of 2, 64 tokens" in err
    lines = out.splitlines()
    assert sum(bool(re.match(r"\d +(local|lsh) +[01] ", line)) for line in lines) == 4
    by_rounds = [re.match(r"1 +(\d(?: \(model\))?) +\d+\.\d%", line) for line in lines]
    assert [found[1] for found in by_rounds if found] == ["1", "2 (model)", "4"]
    assert max(map(len, lines[1:-1])) <= 80
    folder = runs / "text" / "inspect"
    assert {path.name for path in folder.iterdir()} == {
        "inspect.json", "inspect.html", "recall.png", "distance.png", "buckets.png"
    }  # fmt: skip
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in ("recall.png", "buckets.png"))


def test_the_data_are_those_of_the_model_on_the_first_bytes_of_the_split(runs, capsys, tmp_path):
    assert run(capsys, "inspect", runs / "text", "--split", "test", "--seed", 3, "--out", tmp_path)[0] == 0
    document = json.loads((tmp_path / "inspect.json").read_text())
    _, model, step = load_trained(runs / "text")
    tokens = torch.tensor(list((runs / "text.txt").read_bytes()[-1000:-936]))[None]
    rows = inspect_model(model, [model.shift_right(tokens)[0].numpy()], seed=3)
    assert document["rows"] == json.loads(json.dumps(rows))
    assert document["about"]["step"] == step == 2
    assert document["about"]["command"].startswith("reformer inspect ")


def test_the_same_seed_gives_the_same_bytes(runs, capsys, tmp_path):
    def files(seed):
        assert run(capsys, "inspect", runs / "duplication", "--seed", seed, "--out", tmp_path)[0] == 0
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    first = files(1)
    assert files(1) == first
    assert files(2)["inspect.json"] != first["inspect.json"]


def test_the_page_opens_without_a_network(runs, capsys, tmp_path):
    assert run(capsys, "inspect", runs / "text", "--out", tmp_path)[0] == 0
    text = (tmp_path / "inspect.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == ["html"] or page.open == []
    assert len(page.fetched) == 3
    assert all(source.startswith("data:image/png;base64,") for source in page.fetched)
    for outside in ("http:", "https:", "<script", "<link", "@import", "url("):
        assert outside not in text
    # The tables of the terminal are in it.
    _, out, _ = run(capsys, "inspect", runs / "text", "--out", tmp_path)
    assert {"top-32", "same bucket seen", "2 (model)", "64-511"} <= set(page.cells)
    shown = set(re.findall(r"\d+\.\d%", out))
    assert shown and shown <= set(page.cells)


def test_masked_duplication_and_full_runs(runs, capsys):
    for name, kinds in (("masked", {"local", "lsh"}), ("duplication", {"lsh"}), ("full", {"full"})):
        code, out, _ = run(capsys, "inspect", runs / name, "--n-windows", 2)
        assert code == 0
        rows = json.loads((runs / name / "inspect" / "inspect.json").read_text())["rows"]
        assert {row["kind"] for row in rows} == kinds
        assert ("hash rounds" in out) == ("lsh" in kinds)
        assert (runs / name / "inspect" / "recall.png").exists() == ("lsh" in kinds)


def test_another_window_and_fewer_queries(runs, capsys, tmp_path):
    options = ["--window", 24, "--queries", 5, "--n-windows", 3, "--out", tmp_path]
    code, out, _ = run(capsys, "inspect", runs / "text", *options)
    assert code == 0
    assert "3 validation window(s) of 24 tokens" in out and "15 queries" in out


BAD_INPUT = {
    "no such run": (["{folder}/nothing"], "holds no run.*runs beside it"),
    "no run named": ([], "reformer inspect needs RUN"),
    "unknown split": (["{folder}/text", "--split", "dev"], "unknown split 'dev'.*validation"),
    "unknown checkpoint": (["{folder}/text", "--checkpoint", "first"], "latest or best, got 'first'"),
    "window beyond the positions": (["{folder}/text", "--window", "65"], "length 65 is beyond the 64 positions"),
    "odd duplication": (["{folder}/duplication", "--window", "15"], "even and at least 4, got 15"),
    "bad rounds": (["{folder}/text", "--n-hashes", "1,0"], "--n-hashes takes positive numbers.*'1,0'"),
    "rounds without LSH": (["{folder}/full", "--n-hashes", "2"], "about LSH layers, and .*full has none"),
    "no queries": (["{folder}/text", "--queries", "0"], "--queries must be at least 1, got 0"),
    "no windows": (["{folder}/text", "--n-windows", "0"], "--n-windows must be at least 1, got 0"),
    "negative seed": (["{folder}/text", "--seed", "-1"], "--seed must be at least 0, got -1"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_clear_line(case, runs, capsys):
    arguments, expected = BAD_INPUT[case]
    code, out, err = run(capsys, "inspect", *(argument.format(folder=runs) for argument in arguments))
    assert code == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert re.search(expected, err), err


def test_tables_on_a_terminal_are_richs(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    table = [{"layer": "0", "mass": "12.3%"}, {"layer": "1", "mass": "4.5%"}]
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stdout", stream)
        print_table("A title", table)
        monkeypatch.undo()
        assert all(word in stream.getvalue() for word in ("A title", "layer", "mass", "12.3%", "4.5%"))
        # Plain lines hold nothing that a terminal would have to understand.
        assert ("\x1b" in stream.getvalue()) == stream.isatty()

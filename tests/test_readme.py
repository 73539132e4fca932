"""What the README and the documents say must stay true."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_of_the_readme_runs():
    code, decoding = blocks("python")
    assert len(code.strip().splitlines()) <= 10
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["loss"].item() > 0
    assert all(p.grad is not None for p in names["model"].parameters())
    assert names["full"].config.attention == ("local", "full")
    exec(compile(decoding, "README.md", "exec"), names)
    assert names["state"].length == names["tokens"].shape[1] + 10
    assert names["logits"].shape == (1, 1, 256)


def test_the_commands_of_the_readme_parse(tmp_path, monkeypatch, capsys):
    from reformer.cli import main as cli
    from reformer.cli.parsing import UsageError

    commands = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    commands = [line for line in commands if line.startswith(".venv/bin/reformer")]
    assert len(commands) >= 4
    monkeypatch.chdir(tmp_path)
    for line in commands:
        # An experiment in its shortest form: the laptop scale trains for an hour.
        arguments = shlex.split(line.replace("--scale laptop", "--scale smoke"))[1:]
        try:
            code = cli.main(arguments)
        except SystemExit as helped:
            code = helped.code
        said = capsys.readouterr().err
        # PATH, runs/mine and the checkpoint do not exist here, the reproduction may not: everything else must be accepted.
        assert code == 0 or re.search(
            r"no file or folder|holds no run|does not exist|holds no model|not part of the library", said
        ), (
            line,
            said,
        )
    assert issubclass(UsageError, ValueError)


@pytest.mark.parametrize(
    "document",
    ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))],
)
def test_links_and_named_files_exist(document):
    text = (ROOT / document).read_text()
    folder = (ROOT / document).parent
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (folder / target).exists(), target
    for name in re.findall(r"`((?:src|tests|docs|benchmarks|results)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name

import json
import math
from pathlib import Path

import torch

import reformer
from reformer.training.card import render_card, write_card
from reformer.training.environment import code_version, environment

SECTIONS = ["Code", "Software versions", "Hardware", "Data", "Experiment set-up", "Cost", "Result", "Pseudocode"]


def card(command=("reformer", "train", "--name", "two words"), seeds=None, config=None, **changes):
    model = {"model": {"d_model": 256, "axial": (128, 512)}, "out": Path("runs/a")}
    values = {
        "status": "finished",
        "code": code_version(),
        **environment(),
        "setup": {
            "command": list(command),
            "config": model if config is None else config,
            "seeds": {"model": 123456} if seeds is None else seeds,
        },
        "data": {
            "source": "enwik8",
            "checksums": {"enwik8": "sha256:abc"},
            "splits": {"train": 90_000_000, "test": 5_000_000},
        },
        "cost": {"wall_time_seconds": 3723.4, "peak_memory_bytes": 2**31, "tokens": 10**9},
        "results": [
            {"metric": "bits_per_byte", "value": 1.19, "split": "test", "protocol": "windows | of 65,536\nbytes"},
            {"metric": "accuracy", "value": None},
        ],
    }
    return {**values, **changes}


def sections(text):
    parts = text.split("\n## ")
    return {part.splitlines()[0]: "\n".join(part.splitlines()[1:]).strip() for part in parts[1:]}


def test_a_card_answers_every_variable(tmp_path):
    write_card(tmp_path / "run", card())
    found = sections((tmp_path / "run" / "card.md").read_text())
    assert list(found) == SECTIONS
    assert all(found.values())
    assert f"**Version**: {reformer.__version__}" in found["Code"]
    assert torch.__version__ in found["Software versions"]
    assert "`train`: 90,000,000 bytes" in found["Data"]
    assert "`enwik8`: sha256:abc" in found["Data"]
    assert "reformer train --name 'two words'" in found["Experiment set-up"]
    assert "`model`: 123456" in found["Experiment set-up"]
    assert '"d_model": 256' in found["Experiment set-up"]
    assert "1:02:03 (3,723.4 s)" in found["Cost"]
    assert "2.0 GiB (2,147,483,648 bytes)" in found["Cost"]
    assert "docs/algorithm.md" in found["Pseudocode"]


def test_results_are_a_table_with_their_protocol():
    rows = sections(render_card(card()))["Result"].splitlines()
    assert rows[0] == "| Metric | Value | Split | Protocol |"
    assert rows[2] == "| bits_per_byte | 1.19 | test | windows \\| of 65,536 bytes |"
    assert rows[3] == "| accuracy | not run | unknown | unknown |"
    diverged = [{"metric": "bits_per_byte", "value": math.nan, "protocol": "p", "seed": 3}]
    assert "| bits_per_byte | NaN | p | 3 |" in render_card(card(results=diverged))


def test_what_is_absent_is_said_and_never_blank():
    found = sections(render_card({}))
    assert list(found) == SECTIONS
    assert found["Result"] == "not run"
    assert found["Cost"].splitlines() == [f"- **{name}**: unknown" for name in ("Wall time", "Peak memory", "Tokens")]
    partial = render_card(card(data={"source": "", "splits": {}}, cost={"tokens": None}, seeds={}, config={}))
    for line in (render_card({}) + partial).splitlines():
        assert not line.endswith((": ", ":  ")), line
    assert "Configuration: unknown" in partial
    assert "**Seeds**: unknown" in partial


def test_the_json_is_strict_sorted_and_complete(tmp_path):
    whole = card(cost={"loss": math.inf})
    write_card(tmp_path, whole)
    text = (tmp_path / "card.json").read_text()
    back = json.loads(text, parse_constant=lambda name: 1 / 0)
    assert list(back) == sorted(whole)
    assert text == json.dumps(back, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert back["cost"] == {"loss": "Infinity"}
    assert back["setup"]["config"] == {"model": {"d_model": 256, "axial": [128, 512]}, "out": "runs/a"}
    assert back["status"] == "finished"
    write_card(tmp_path, {**whole, "status": "interrupted"})
    assert json.loads((tmp_path / "card.json").read_text())["status"] == "interrupted"
    assert "**interrupted**" in (tmp_path / "card.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "card.md"]

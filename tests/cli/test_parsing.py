"""What does not parse is one line made of tyro's own events: the option, what it takes, what came, what is nearest."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tyro.conf import Positional

from reformer.cli.parsing import UsageError, option_names, parse, parse_beside


@dataclass(frozen=True, kw_only=True)
class Inner:
    n_hashes: int = 2
    reversible: bool = True

    def __post_init__(self) -> None:
        if self.n_hashes < 1:
            raise ValueError(f"n_hashes must be at least 1, got {self.n_hashes}")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Do something."""

    source: Positional[Path]
    n_steps: int = 3
    betas: tuple[float, float] = (0.9, 0.98)
    window: int | None = None
    resume: bool = False
    model: Inner = field(default_factory=Inner)


@dataclass(frozen=True, kw_only=True)
class Other:
    limit: int = 5


def parsed(*arguments: str) -> Options:
    return parse(Options, arguments, prog="prog")


def test_options_and_positionals_in_any_order():
    found = parsed("--n-steps", "4", "here", "--resume", "--model.no-reversible")
    assert found == Options(source=Path("here"), n_steps=4, resume=True, model=Inner(reversible=False))
    assert parsed("here", "--n_steps=4").n_steps == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["here", "--n-step", "4"], "unknown option --n-step; did you mean --n-steps?"),
        (["here", "--n_step=4"], "unknown option --n_step; did you mean --n-steps?"),
        (
            ["here", "--colour", "red"],
            "unknown option --colour; prog --help explains those that fit: --n-steps, --betas, --window, --resume",
        ),
        (["--colour"], "unknown option --colour; prog --help explains those that fit: "),
        (["--colour", "--n-steps", "4"], "unknown option --colour; prog --help explains those that fit: "),
        (["here", "there"], "prog takes no 'there'; see prog --help"),
        ([], "prog needs SOURCE; see prog --help"),
        (["here", "--n-steps", "many"], "--n-steps takes INT, got 'many'; see prog --help"),
        (["here", "--n-steps=many"], "--n-steps takes INT, got 'many'; see prog --help"),
        (["here", "--n_steps", "many"], "--n-steps takes INT, got 'many'; see prog --help"),
        (["here", "--n-steps"], "--n-steps takes INT, got ''; see prog --help"),
        (["here", "--betas", "1"], "--betas takes FLOAT FLOAT, got '1'; see prog --help"),
        (["here", "--window", "wide"], "--window takes INT, got 'wide'; see prog --help"),
        (["here", "--model.n-hashes", "0"], "n_hashes must be at least 1, got 0"),
    ],
)
def test_what_does_not_parse_is_one_line(arguments, said, capsys):
    with pytest.raises(UsageError) as refused:
        parsed(*arguments)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)
    assert capsys.readouterr() == ("", "")


def test_a_default_instance_is_what_the_options_change():
    default = Options(source=Path("there"), n_steps=9, model=Inner(n_hashes=8))
    assert parse(Options, ["--resume"], prog="prog", default=default).model == Inner(n_hashes=8)
    with pytest.raises(UsageError, match=r"unknown option --n-hashes; did you mean --model\.n-hashes\?"):
        parse(Options, ["--n-hashes", "4"], prog="prog", default=default)


def test_two_dataclasses_side_by_side():
    first, second = Inner(n_hashes=4), Other()
    assert parse_beside(first, second, [], prog="prog") == (first, second)
    changed = parse_beside(first, second, ["--limit", "7", "--no-reversible"], prog="prog")
    assert changed == (Inner(n_hashes=4, reversible=False), Other(limit=7))
    with pytest.raises(UsageError, match=r"unknown option --limits; did you mean --limit\?"):
        parse_beside(first, second, ["--limits", "7"], prog="prog")
    with pytest.raises(ValueError, match=r"^n_hashes must be at least 1, got 0$"):
        parse_beside(first, second, ["--n-hashes", "0"], prog="prog")


def test_the_names_of_options():
    assert option_names(Other) == ["--limit"]
    assert option_names(Inner()) == ["--n-hashes", "--reversible", "--no-reversible"]
    assert option_names(Options(source=Path("x")))[-3:] == [
        "--model.n-hashes",
        "--model.reversible",
        "--model.no-reversible",
    ]

"""Command lines from dataclasses by tyro, with its errors brought to one line."""

import contextlib
import dataclasses
import difflib
import io
import re
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class UsageError(ValueError):
    """A command line that does not parse; the message is one line."""


def parse(cls: type[T], arguments: Sequence[str], *, prog: str, description: str, default: T | None = None) -> T:
    """``arguments`` as an instance of the dataclass ``cls``; prints help and exits on --help.

    Raises UsageError for what does not parse, and whatever ``cls`` itself raises for values that do not fit.
    """
    import tyro

    options: dict[str, Any] = {"prog": prog, "description": description, "args": list(arguments)}
    if default is not None:
        options["default"] = default
    if {"-h", "--help"} & set(arguments):
        return tyro.cli(cls, **options)
    known = _option_names(cls)
    _check_names(arguments, known, prog)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return tyro.cli(cls, **options)
    except SystemExit:
        raise UsageError(f"{_first_words(said.getvalue())}; see {prog} --help") from None


def positive_numbers(option: str, text: str | None) -> list[int]:
    """The numbers of "1,2,4"; none for None. Raises UsageError naming ``option``."""
    words = [] if text is None else text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"{option} takes positive numbers separated by commas, got {text!r}")
    return [int(word) for word in words]


def check_split(split: str) -> None:
    """Raise UsageError unless ``split`` is one."""
    if split not in ("train", "validation", "test"):
        raise UsageError(f"unknown split {split!r}; splits: train, validation, test")


def check_checkpoint(which: str, average: int | None = None) -> None:
    """Raise UsageError unless ``which`` is latest or best, and latest where the newest ``average`` are averaged."""
    if which not in ("latest", "best"):
        raise UsageError(f"--checkpoint must be latest or best, got {which!r}")
    if average is not None and which != "latest":
        raise UsageError(
            f"--average {average} is of the newest checkpoints: leave --checkpoint {which} or --average out"
        )


def _check_names(arguments: Sequence[str], known: list[str], prog: str) -> None:
    for argument in arguments:
        name = argument.split("=", 1)[0].replace("_", "-")
        if name.startswith("--") and name not in known:
            near = [option for option in known if option.endswith(f".{name[2:]}")]
            near = near or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near[:3])}?" if near else f"see {prog} --help"
            raise UsageError(f"unknown option {argument.split('=', 1)[0]}; {hint}")


def _option_names(cls: Any, prefix: str = "") -> list[str]:
    names = []
    types = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(types[field.name]):
            names += _option_names(types[field.name], f"{name}.")
        else:
            names.append(f"--{name}")
            if types[field.name] is bool:
                names.append(f"--{prefix}no-{field.name.replace('_', '-')}")
    return names


def _first_words(report: str) -> str:
    """The message of tyro's report off a terminal: a title, a rule, the message, another rule, help."""
    parts = re.split(r"^ *-{3,} *$", report, flags=re.MULTILINE)
    message = " ".join(parts[1 if len(parts) > 1 else 0].split())
    message = re.sub(
        r"^Error parsing (--\S+): no type matching (?:\{None\}\|)?(\S+) could be instantiated from \['(.*?)'\]\. .*",
        r"\1 takes \2, got '\3'",
        message,
    )
    # A config that refuses its values says all there is to say; tyro adds where it was building it.
    return re.sub(r"^Error parsing (?!--)\S+: ", "", message) or "the command line does not parse"

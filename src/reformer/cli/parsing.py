"""Command lines by tyro, from dataclasses; whatever does not parse is one line.

tyro draws its errors as boxes. Before it draws one it hands the event to a hook (``tyro._errors``), with the option and what
is wrong as values: the lines here are made of those, and nothing that was printed is read.
"""

import contextlib
import dataclasses
import difflib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

if TYPE_CHECKING:
    from tyro._errors import ParseErrorEvent

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")


class UsageError(ValueError):
    """A command line that cannot be carried out; the message is one line."""


def parse(
    cls: type[T], arguments: Sequence[str], *, prog: str, description: str | None = None, default: T | None = None
) -> T:
    """``arguments`` as an instance of the dataclass ``cls``; prints help and exits on --help.

    Raises UsageError for what does not parse, and whatever ``cls`` itself raises for values that do not fit.
    """
    import tyro
    from tyro.conf import PositionalMetavarFromFieldName

    options: dict[str, Any] = {} if default is None else {"default": default}
    with one_line_errors(arguments, prog, option_names(cls if default is None else default)):
        parsed: T = tyro.cli(
            cls,
            prog=prog,
            description=description,
            args=list(arguments),
            config=(PositionalMetavarFromFieldName,),
            **options,
        )
    return parsed


def beside(first: A, second: B) -> Callable[..., tuple[A, B]]:
    """A function for tyro whose options are the fields of both dataclasses, side by side."""
    from tyro.conf import arg

    def both(
        first: Annotated[Any, arg(name="", constructor=type(first))] = first,
        second: Annotated[Any, arg(name="", constructor=type(second))] = second,
    ) -> Any:
        return first, second

    return both


def parse_beside(
    first: A, second: B, arguments: Sequence[str], *, prog: str, description: str | None = None
) -> tuple[A, B]:
    """``arguments`` as changes of two dataclasses whose options stand side by side; otherwise as ``parse``."""
    import tyro

    with one_line_errors(arguments, prog, option_names(first) + option_names(second)):
        return tyro.cli(beside(first, second), prog=prog, description=description, args=list(arguments))


@contextlib.contextmanager
def one_line_errors(arguments: Sequence[str], prog: str, known: Sequence[str]) -> Iterator[None]:
    """UsageError in place of tyro's boxes and exits; ``known`` are the options to suggest."""
    from tyro import _errors

    def refuse(event: "ParseErrorEvent") -> None:
        raise UsageError(_line(event, arguments, prog, known))

    with _errors.on_parse_error(refuse):
        yield


def option_names(options: Any, prefix: str = "") -> list[str]:
    """The options that set the fields of a dataclass, or of an instance of it; a field without a default is positional."""
    names = []
    for field in dataclasses.fields(options):
        if not hasattr(options, field.name):
            continue
        value, name = getattr(options, field.name), field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            names += option_names(value, f"{prefix}{name}.")
        else:
            names += [f"--{prefix}{name}", *([f"--{prefix}no-{name}"] if isinstance(value, bool) else [])]
    return names


def _line(event: "ParseErrorEvent", arguments: Sequence[str], prog: str, known: Sequence[str]) -> str:
    from tyro import _errors

    match event:
        case _errors.UnrecognizedArgs(tokens=words) | _errors.MissingArgs(unrecognized_tokens=[_, *_] as words):
            return _unknown(words, prog, known)
        case _errors.MissingArgs(missing_arguments=missing):
            names = " and ".join(str(each.arg.lowered.metavar) for each in missing)
            return f"{prog} needs {names}; see {prog} --help"
        case _errors.InstantiationFailure(argument=None, message=message):
            return message  # of a dataclass that refuses its values, and says why
        case _errors.BadValue(argument=option) if option.is_positional():
            # What stands in its place looks like an option.
            return _unknown([word for word in arguments if word.startswith("-")], prog, known)
        case _errors.InstantiationFailure(argument=option) | _errors.BadValue(argument=option) if option is not None:
            takes = (option.lowered.metavar or "no value").removeprefix("{None}|")
            given = _given(arguments, option.lowered.name_or_flags)
            return f"{option.display_name()} takes {takes}, got {given}; see {prog} --help"
        case _errors.InvalidChoice(argument=option, value=value, choices=choices):
            return f"{option.display_name()} must be one of {', '.join(choices)}, got {value!r}"
        case _:
            return f"the command line does not parse ({type(event).__name__}); see {prog} --help"


def _unknown(words: Sequence[str], prog: str, known: Sequence[str]) -> str:
    strangers = [word.split("=", 1)[0] for word in words if word.startswith("-")]
    strangers = [word for word in strangers if word.replace("_", "-") not in known]
    if not strangers:
        return f"{prog} takes no {' '.join(map(repr, words))}; see {prog} --help"
    name = strangers[0].replace("_", "-")
    near = [each for each in known if each.endswith(f".{name.lstrip('-')}")]
    near = near or difflib.get_close_matches(name, known, n=3, cutoff=0.75)
    if near:
        return f"unknown option {strangers[0]}; did you mean {' or '.join(near[:3])}?"
    fitting = ", ".join(each for each in known if "." not in each and not each.startswith("--no-"))
    return f"unknown option {strangers[0]}; {prog} --help explains those that fit: {fitting}"


def _given(arguments: Sequence[str], names: Sequence[str]) -> str:
    """The words given to the option of these names."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") in names:
            after = itertools.takewhile(lambda word: not word.startswith("--"), arguments[place + 1 :])
            return repr(value if equals else " ".join(after))
    return repr(" ".join(arguments))

"""``reformer generate RUN --prompt ...``: bytes of a trained run, or tokens of ``--hf FOLDER``, streamed as text."""

import codecs
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

from reformer.cli.parsing import UsageError, check_checkpoint, parse

if TYPE_CHECKING:
    from reformer.generation import Stopping
    from reformer.models import ReformerLM


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """What to continue and how to draw."""

    prompt: str = ""
    """The text to continue; - reads standard input."""
    n_bytes: int = 256
    """New bytes; with --hf new tokens, which may be longer."""
    temperature: float = 0.8
    """0: always the likeliest byte."""
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    """Above 1: what the text already holds becomes less likely."""
    stop: tuple[str, ...] = ()
    """End with the first of these strings in the continuation."""
    num_beams: int | None = None
    """Search for the likeliest continuation with this many beams instead of drawing; it comes when it is complete."""
    seed: int = 0
    """Fixes the draws and the hash rotations."""
    checkpoint: str = "latest"
    """latest or best."""


def run(arguments: Sequence[str]) -> int:
    """Parse, load and stream; a run that translates does that."""
    from tyro.conf import Positional

    from reformer.cli import eval_translation, generate_translation

    # The folder of --hf holds a config.json too, of another kind.
    of_a_run = not any(argument.split("=")[0] == "--hf" for argument in arguments)
    if of_a_run and any(eval_translation.translates(each) for each in arguments if not each.startswith("-")):
        return generate_translation.run(arguments)

    @dataclass(frozen=True, kw_only=True)
    class Arguments(GenerateOptions):
        run: Annotated[Positional[Path | None], "Folder of a run."] = None
        hf: Path | None = None
        """In place of a run: a folder of reformer convert, reformer.hf or a transformers Reformer."""

    options = parse(Arguments, arguments, prog="reformer generate", description="Continue a prompt with a trained run.")
    if options.n_bytes < 1:
        raise UsageError(f"--n-bytes must be at least 1, got {options.n_bytes}")
    if (options.run is None) == (options.hf is None):
        raise UsageError("give either the folder of a run or --hf with a folder; see reformer generate --help")
    prompt = sys.stdin.buffer.read() if options.prompt == "-" else os.fsencode(options.prompt)
    if options.hf is not None:
        generate_text_of_hf(options.hf.expanduser(), prompt, options)
    elif options.run is not None:
        generate_text(options.run.expanduser(), prompt, options)
    return 0


def generate_text(directory: Path, prompt: bytes, options: GenerateOptions) -> None:
    """Stream prompt and continuation to standard output."""
    check_checkpoint(options.checkpoint)
    from reformer.generation import Stopping
    from reformer.training.run_directory import load_trained

    run, model, _ = load_trained(directory, options.checkpoint, lambda line: print(line, file=sys.stderr))
    if run.config.task == "images":
        raise UsageError(f"{directory} was trained on pictures; draw some with: reformer images {directory}")
    # With as many buckets as in training, if that is where the text will fit.
    max_len = max(run.config.seq_len, len(prompt) + options.n_bytes)
    tokens = _continuation(model, prompt, options, max_len, Stopping(_stop_strings(options)))
    stream_utf8([*prompt], sys.stdout)
    stream_utf8(tokens, sys.stdout)
    print()


def generate_text_of_hf(directory: Path, prompt: bytes, options: GenerateOptions) -> None:
    """``generate_text`` of a folder in a transformers format."""
    from reformer.cli.hf_models import open_hf
    from reformer.generation import Stopping

    model, codec = open_hf(directory)
    ids = codec.encode(prompt)
    stopping = Stopping(_stop_strings(options), codec.to_bytes)
    tokens = _continuation(model, ids, options, len(ids) + options.n_bytes, stopping)
    stream_utf8([*prompt], sys.stdout)
    stream_utf8((byte for token in tokens for byte in codec.to_bytes(token)), sys.stdout)
    print()


def _stop_strings(options: GenerateOptions) -> tuple[bytes, ...]:
    return tuple(os.fsencode(string) for string in options.stop)


def _continuation(
    model: "ReformerLM", prompt: bytes | list[int], options: GenerateOptions, max_len: int, stopping: "Stopping"
) -> Iterable[int]:
    from reformer.generation import SamplingConfig, beam_search, stream

    longest = model.config.longest_input
    max_len = max_len if longest is None else min(max_len, longest)
    common: dict[str, Any] = {"stop": stopping, "rotation_seed": options.seed, "max_len": max_len}
    if options.num_beams is not None:
        return beam_search(model, prompt, options.n_bytes, num_beams=options.num_beams, **common)[0].tokens
    sampling = SamplingConfig(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
    )
    steps = stream(model, [prompt], options.n_bytes, sampling, seeds=[options.seed], **common)
    return (token for (token,) in steps if token is not None)


def stream_utf8(tokens: Iterable[int], stream: TextIO) -> None:
    """Write byte values as they come, always as valid UTF-8: what cannot be decoded becomes U+FFFD.

    On a terminal, control characters other than line ends and tabs are shown, not obeyed.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    shown = _printable if stream.isatty() else str
    binary = getattr(stream, "buffer", None)

    def write(text: str) -> None:
        if binary is not None:
            # The bytes themselves: the terminal's locale may not be UTF-8.
            binary.write(text.encode())
            binary.flush()
        else:
            stream.write(text)

    stream.flush()
    for token in tokens:
        if text := decoder.decode(bytes([token])):
            write(shown(text))
    if text := decoder.decode(b"", final=True):
        write(shown(text))


def _printable(text: str) -> str:
    return "".join(c if c in "\n\t" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)

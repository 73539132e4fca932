"""``reformer bench attention|model|memory|decode|report``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reformer.cli.parsing import UsageError, parse

BENCHMARKS = {
    "attention": "our attention beside transformers, reformer-pytorch and torch's full attention",
    "model": "a whole training step beside transformers' ReformerModelWithLMHead",
    "memory": "peak memory of a training step: by depth, or of the paper's million tokens",
    "decode": "a token of cached decoding by the length of its context, beside transformers'",
    "report": "tables and plots of a document, from the rows measured",
}


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """From which rows, into which document."""

    rows: Path = Path("results")
    """A file of rows, or a folder of such files (.jsonl)."""
    document: Path = Path("docs/benchmarks.md")
    """Its blocks <!-- bench:NAME --> are filled."""
    plots: Path | None = None
    """Folder of the plots; default: the document's name beside it."""


def run(arguments: Sequence[str]) -> int:
    """Find the benchmark, parse its options, refuse if the ops are wrong, measure, and print the table."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in BENCHMARKS:
        raise UsageError(f"unknown benchmark {name!r}; benchmarks: {', '.join(BENCHMARKS)}")
    return {"attention": _attention, "model": _model, "memory": _memory, "decode": _decode, "report": _report}[name](
        rest
    )


def _attention(arguments: list[str]) -> int:
    from reformer.bench.attention import AttentionOptions, measure_attention
    from reformer.bench.presets import ATTENTION_PRESETS, attention_preset
    from reformer.bench.tables import attention_table, findings

    chosen = _preset_in(arguments)
    default = AttentionOptions() if chosen is None else attention_preset(chosen)
    options = _parse("attention", AttentionOptions, arguments, default, ATTENTION_PRESETS)
    rows, ceilings = _measure(
        "attention", options, options.dtype, measure_attention, arguments, wants_ceilings=options.roofline
    )
    _print_table(attention_table(rows, ceilings))
    for sentence in findings(rows):
        print(sentence)
    return 0


def _model(arguments: list[str]) -> int:
    from reformer.bench.model import ModelOptions, measure_model

    return _training_steps("model", ModelOptions, measure_model, arguments)


def _memory(arguments: list[str]) -> int:
    from reformer.bench.memory import MemoryOptions, measure_memory

    return _training_steps("memory", MemoryOptions, measure_memory, arguments)


def _decode(arguments: list[str]) -> int:
    from reformer.bench.decoding import DecodeOptions, measure_decoding
    from reformer.bench.presets import find_preset
    from reformer.bench.shapes import SHAPES
    from reformer.bench.tables import decode_table

    options: Any = _parse("decode", DecodeOptions, arguments, DecodeOptions(), SHAPES)
    find_preset(options.preset, SHAPES)
    rows, _ = _measure("decode", options, ("float32",), measure_decoding, arguments)
    _print_table(decode_table(rows))
    return 0


def _training_steps(name: str, cls: type, measure: Callable, arguments: list[str]) -> int:
    from reformer.bench.presets import find_preset
    from reformer.bench.shapes import SHAPES
    from reformer.bench.tables import step_table

    options: Any = _parse(name, cls, arguments, cls(), SHAPES)
    find_preset(options.preset, SHAPES)
    dtypes = options.dtype if isinstance(options.dtype, tuple) else (options.dtype,)
    rows, _ = _measure(name, options, dtypes, measure, arguments)
    _print_table(step_table(rows))
    return 0


def _report(arguments: list[str]) -> int:
    from reformer.bench.report import write_report

    options = parse(ReportOptions, arguments, prog="reformer bench report", description=BENCHMARKS["report"])
    plots = options.document.with_suffix("") if options.plots is None else options.plots
    for path in write_report(options.rows, options.document, plots):
        print(path)
    return 0


def _measure(
    name: str,
    options: Any,
    dtypes: Iterable[str],
    measure: Callable,
    arguments: list[str],
    wants_ceilings: bool = False,
) -> tuple[list[dict], list[dict]]:
    import torch

    from reformer.bench.contenders import pick_device
    from reformer.bench.correctness import require_correct
    from reformer.bench.roofline import measure_ceilings
    from reformer.bench.rows import RowFile, provenance

    device = pick_device(options.device)
    threads = options.threads or torch.get_num_threads()
    checked = require_correct(device, tuple(dict.fromkeys(("float32", *dtypes))))
    _say(f"correct against the definition, outputs and gradients: {', '.join(checked)}")
    file = RowFile(options.out, provenance(["reformer", "bench", name, *arguments]))
    ceilings = measure_ceilings(file, device, threads, tuple(dtypes)) if wants_ceilings else []
    return measure(options, file, device, threads, _say), ceilings


def _parse(name: str, cls: type, arguments: list[str], default: Any, presets: dict[str, Callable]) -> Any:
    lines = [f"{preset}: {(make.__doc__ or '').strip()}" for preset, make in presets.items()]
    description = "\n\n".join([f"Measure {BENCHMARKS[name]}.", "Presets:", *lines])
    return parse(cls, arguments, prog=f"reformer bench {name}", description=description, default=default)


def _preset_in(arguments: Sequence[str]) -> str | None:
    """The preset that the other options change: it must be known before they are parsed."""
    for index, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option == "--preset":
            if equals:
                return value
            return arguments[index + 1] if index + 1 < len(arguments) else None
    return None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print_table(table: list[dict[str, str]]) -> None:
    from reformer.bench.tables import render

    print(render(table))


def _help() -> str:
    width = max(map(len, BENCHMARKS))
    return "\n".join(
        [
            "usage: reformer bench BENCHMARK [--preset NAME] [--out FILE] [options]",
            "",
            *(f"  {name:<{width}}  {what}" for name, what in BENCHMARKS.items()),
            "",
            "reformer bench BENCHMARK --help lists the presets and options. With --out, an interrupted benchmark",
            "continues: rows that the file holds for this commit and machine are not measured again.",
        ]
    )

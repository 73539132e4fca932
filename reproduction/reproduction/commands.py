"""``reformer bench``, ``reproduce`` and ``report``: what this distribution adds to the command ``reformer``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional

from reformer.cli.parsing import UsageError, parse

if TYPE_CHECKING:
    from reproduction.rows import Row

BENCHMARKS = {
    "attention": "our attention beside transformers, reformer-pytorch and torch's full attention",
    "model": "a whole training step beside transformers' ReformerModelWithLMHead",
    "memory": "peak memory of a training step: by depth, or of the paper's million tokens",
    "decode": "a token of cached decoding by the length of its context, beside transformers'",
    "report": "tables and plots of a document, from the rows measured",
}


@dataclass(frozen=True, kw_only=True)
class BenchReportOptions:
    """From which rows, into which document."""

    rows: Path = Path("results")
    """A file of rows, or a folder of such files (.jsonl)."""
    document: Path = Path("docs/benchmarks.md")
    """Its blocks <!-- bench:NAME --> are filled."""
    plots: Path | None = None
    """Folder of the plots; default: the document's name beside it."""


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """What of it to run, and where rows and runs are kept."""

    name: Annotated[Positional[str | None], "An experiment; --list names them."] = None
    scale: str = "laptop"
    """smoke (seconds), laptop (two cores), gpu (one accelerator) or paper (the full setting)."""
    seeds: int | None = None
    """Seeds 0 .. N-1; default: the experiment's own number."""
    rows: tuple[str, ...] = ()
    """Only these lines of the table; default: all."""
    resume: bool = True
    """Go on where an earlier command stopped; --no-resume: finished lines run again, trainings from their start (what was there
    is kept as NAME.before)."""
    results: Path = Path("results")
    """Folder of the .jsonl files: finished lines are appended, and not run again."""
    work: Path = Path("runs/reproduce")
    """Folder of the runs, from which an interrupted one continues."""
    cache_dir: Path = Path("~/.cache/reformer")
    """Where prepared corpora are kept."""
    estimate: bool = False
    """Train nothing: measure a pass of each training here (of deep models and long full attention: parts of one), and say what the
    whole would take."""
    list: bool = False
    """List the experiments: what each is, and the paper's number beside ours, where and when that was measured."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Where the rows are and where the report goes."""

    results: Path = Path("results")
    out: Path = Path("docs/results.md")
    """The document; the page and the drawings are written beside it."""


def bench(arguments: Sequence[str]) -> int:
    """Find the benchmark, parse its options, refuse if the ops are wrong, measure, and print the table."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_bench_help())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in BENCHMARKS:
        raise UsageError(f"unknown benchmark {name!r}; benchmarks: {', '.join(BENCHMARKS)}")
    if name == "report":
        from reproduction.benchmarks.document import write_report

        options = parse(BenchReportOptions, rest, prog="reformer bench report", description=BENCHMARKS["report"])
        plots = options.document.with_suffix("") if options.plots is None else options.plots
        for path in write_report(options.rows, options.document, plots):
            print(path)
        return 0

    from reformer.cli.inspect_command import print_table
    from reproduction.benchmarks.tables import bench_table, findings

    rows, ceilings = _measure(name, rest)
    print_table(BENCHMARKS[name], bench_table(rows, ceilings))
    for sentence in findings(rows) if name == "attention" else ():
        print(sentence)
    return 0


def _measure(name: str, arguments: list[str]) -> tuple[list[Row], list[Row]]:
    """The rows, and those of the machine's ceilings if they are wanted."""
    import torch

    from reproduction.benchmarks.benchmark import Bench, measure, pick_device
    from reproduction.benchmarks.correctness import require_correct
    from reproduction.benchmarks.roofline import measure_ceilings
    from reproduction.rows import RowFile, provenance

    options, groups = _parsed(name, arguments)
    device = pick_device(options.device)
    named = getattr(options, "dtype", "float32")
    dtypes = (named,) if isinstance(named, str) else named
    checked = require_correct(device, tuple(dict.fromkeys(("float32", *dtypes))))
    _say(f"correct against the definition, outputs and gradients: {', '.join(checked)}")
    file = RowFile(options.out, provenance(["reformer", "bench", name, *arguments]), _say)
    where = Bench(file=file, device=device, threads=options.threads or torch.get_num_threads())
    ceilings = measure_ceilings(where, dtypes) if getattr(options, "roofline", False) else []
    return measure(groups(options, where), file, _say), ceilings


def _parsed(name: str, arguments: list[str]) -> tuple[Any, Callable[..., Any]]:
    """The options of a benchmark, and what makes its groups of cases of them."""
    from reproduction.benchmarks.attention import AttentionOptions, attention_groups
    from reproduction.benchmarks.benchmark import require_name
    from reproduction.benchmarks.decoding import DecodeOptions, decode_groups
    from reproduction.benchmarks.presets import ATTENTION_PRESETS, attention_preset
    from reproduction.benchmarks.shapes import SHAPES
    from reproduction.benchmarks.steps import MemoryOptions, ModelOptions, memory_groups, model_groups

    default: Any
    groups: Callable[..., Any]
    presets = {preset: make.__doc__ or "" for preset, make in SHAPES.items()}
    match name:
        case "model":
            default, groups = ModelOptions(), model_groups
        case "memory":
            default, groups = MemoryOptions(), memory_groups
        case "decode":
            default, groups = DecodeOptions(), decode_groups
        case _:
            chosen = _preset_in(arguments)
            default, groups = AttentionOptions() if chosen is None else attention_preset(chosen), attention_groups
            presets = {preset: what for preset, (what, _) in ATTENTION_PRESETS.items()}
    lines = [f"{preset}: {what}" for preset, what in presets.items()]
    description = "\n\n".join([f"Measure {BENCHMARKS[name]}.", "Presets:", *lines])
    prog = f"reformer bench {name}"
    options = parse(type(default), arguments, prog=prog, description=description, default=default)
    if options.preset is not None:
        require_name("preset", options.preset, presets)
    return options, groups


def _preset_in(arguments: Sequence[str]) -> str | None:
    """The preset that the other options change: it must be known before they are parsed."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    return words[words.index("--preset") + 1] if "--preset" in words[:-1] else None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _bench_help() -> str:
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


def reproduce(arguments: Sequence[str]) -> int:
    """Parse, run case by case, and say where the rows are."""
    from reproduction.case import Stopped
    from reproduction.experiments.running import LinesNotRun

    options = parse(
        ReproduceOptions,
        arguments,
        prog="reformer reproduce",
        description="Measure a table or figure of the paper; interrupt it as you like, the same command continues.",
    )
    folders = {name: getattr(options, name).expanduser() for name in ("results", "work", "cache_dir")}
    options = dataclasses.replace(options, **folders)
    if options.list:
        _print_list(options.results, options.name)
        return 0
    if options.name is None:
        raise UsageError("name an experiment; reformer reproduce --list shows them")
    try:
        print(
            f"kept in {_reproduce(options.name, options, ['reformer', 'reproduce', *arguments])}; next: reformer report"
        )
    except Stopped as stop:
        print(stop)
    except LinesNotRun as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0


def _reproduce(name: str, options: ReproduceOptions, command: list[str]) -> Path:
    """The file of the rows."""
    from reformer.training.progress import format_bytes, format_duration
    from reproduction.case import Place
    from reproduction.experiments.estimating import FILE, estimate_experiment
    from reproduction.experiments.registry import experiment
    from reproduction.experiments.running import require_scale, run_experiment

    chosen = experiment(name)
    lines: dict[str, Any] = {"results": options.results, "rows": options.rows}
    require_scale(chosen, options.scale)
    seeds = chosen.seeds[options.scale] if options.seeds is None else options.seeds
    if seeds < 1:
        raise UsageError(f"--seeds must be at least 1, got {seeds}")
    print(f"{chosen.title}\n{options.scale}: {chosen.notes.get(options.scale, '')}")
    if not options.estimate:
        place = Place(work=options.work, cache_dir=options.cache_dir, command=command, resume=options.resume)
        run_experiment(chosen, options.scale, range(seeds), place, **lines)
        return options.results / f"{name}.jsonl"
    for row in estimate_experiment(chosen, options.scale, command=command, **lines):
        total, memory = format_duration(row["total_seconds"]), format_bytes(row["peak_memory_bytes"])
        print(f"{row['row']}: {row['passes']:,} passes of {row['seconds_per_pass']:.3g} s, {total} a seed, {memory}")
    return options.results / FILE


def _print_list(results: Path, name: str | None) -> None:
    from reproduction.experiments.registry import NAMES, experiment
    from reproduction.report.section import listing, read_results

    chosen = [experiment(each) for each in (NAMES if name is None else (name,))]
    if not results.is_dir():
        print(f"no folder {results} here: what was measured is not known (--results FOLDER)", file=sys.stderr)
    rows = read_results(results) if results.is_dir() else []
    for each in chosen:
        print("\n".join(listing(each, rows)))


def report(arguments: Sequence[str]) -> int:
    """Parse, write, and name what was written."""
    from reproduction.report.document import write_report

    options = parse(
        ReportOptions, arguments, prog="reformer report", description="Tables and figures from the rows in results/."
    )
    if not options.results.is_dir():
        raise UsageError(f"no folder {options.results}; make rows with: reformer reproduce NAME")
    if options.out.suffix != ".md":
        raise UsageError(f"--out names the document, a .md file (the page is written beside it), got {options.out}")
    for path in write_report(options.results, options.out):
        print(path)
    return 0

"""Progress of a run: a bar on a terminal, plain self-contained lines elsewhere."""

import sys
from collections.abc import Mapping
from time import monotonic
from typing import Any, TextIO

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows step, loss in ``metric``, tokens per second, peak memory and the time left of ``total_steps``.

    The time left comes from the rate since ``start_step``. If ``stream`` (standard error by default) is a terminal and
    rich is installed, a bar; else plain lines: the first update, at most one every ten seconds, and the last.
    Use it in a ``with``.
    """

    def __init__(self, total_steps: int, metric: str, *, start_step: int = 0, stream: TextIO | None = None) -> None:
        self._total, self._start = total_steps, start_step
        self._unit = metric.replace(" per ", "/")
        self._stream = sys.stderr if stream is None else stream
        self._began = self._last_line = monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._unwritten: str | None = None
        self._wrote_any = False

    def __enter__(self) -> "Progress":
        self._began = monotonic()
        self._bar = _rich_bar(self._stream)
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total, completed=self._start, status="starting")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._unwritten is not None:
            self._write(self._unwritten)

    def update(self, record: Mapping[str, Any]) -> None:
        """Show a record of training: its "step", "value", "tokens_per_second" and "peak_memory_bytes"."""
        step = record["step"]
        parts = [
            f"{record['value']:.3f} {self._unit}",
            f"{record['tokens_per_second']:,.0f} tokens/s",
            f"peak {format_bytes(record['peak_memory_bytes'])}",
            f"eta {self._eta(step)}",
        ]
        if self._bar is not None:
            self._bar.update(self._task, completed=step, status="  ".join(parts))
        else:
            self._line(step, "  ".join([f"step {step}/{self._total}", *parts]))

    def message(self, text: str) -> None:
        """Write a line of its own, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            self._write(text)

    def _line(self, step: int, text: str) -> None:
        due = monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES
        if due or step >= self._total or not self._wrote_any:
            self._wrote_any, self._unwritten, self._last_line = True, None, monotonic()
            self._write(text)
        else:
            self._unwritten = text

    def _write(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def _eta(self, step: int) -> str:
        done = step - self._start
        if done <= 0:
            return "unknown"
        return format_duration((self._total - step) * (monotonic() - self._began) / done)


def format_bytes(size: float) -> str:
    """``size`` bytes for a reader: 812 MiB, 1.2 GiB."""
    if size >= 2**30:
        return f"{size / 2**30:.1f} GiB"
    return f"{size / 2**20:.0f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"


def format_duration(seconds: float) -> str:
    """``seconds`` as 05:12, or 1:05:12 from an hour on."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def _rich_bar(stream: TextIO) -> Any:
    """A rich progress bar, or None where plain lines serve better: no terminal, or no rich."""
    if not stream.isatty():
        return None
    try:
        from rich import progress
        from rich.console import Console
        from rich.table import Column
    except ImportError:
        return None
    console = Console(file=stream)
    if not console.is_interactive:
        return None
    columns = (
        progress.MofNCompleteColumn(),
        progress.BarColumn(bar_width=10),
        # May wrap: on a narrow terminal a second line is better than a figure cut off.
        progress.TextColumn("{task.fields[status]}", markup=False, table_column=Column(no_wrap=False)),
    )
    return progress.Progress(*columns, console=console, refresh_per_second=4)

import contextlib
import io
import sys

import pytest

from reformer.training import progress as module
from reformer.training.progress import Progress, format_bytes, format_duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def update(progress, step, **values):
    common = {"value": 2.9134, "tokens_per_second": 3412.4, "peak_memory_bytes": int(1.2 * 2**30)}
    progress.update({"step": step, **common, **values})


def test_a_plain_line_says_it_all_with_the_time_left_from_the_rate_since_the_start(clock):
    stream = io.StringIO()
    with Progress(1500, "bits per byte", start_step=100, stream=stream) as progress:
        clock[0] += 24.0  # 100 steps, so 1300 more take 312 seconds
        update(progress, 200)
    line = "step 200/1500  2.913 bits/byte  3,412 tokens/s  peak 1.2 GiB  eta 05:12\n"
    assert stream.getvalue() == line


def test_plain_lines_come_every_ten_seconds_and_the_first_and_last(clock):
    stream = io.StringIO()
    with Progress(100, "bits per byte", stream=stream) as progress:
        for step in range(1, 101):
            clock[0] += 1.0
            update(progress, step)
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == [f"{step}/100" for step in (*range(1, 100, 10), 100)]


def test_an_interrupted_run_still_shows_its_last_step(clock):
    stream = io.StringIO()
    with contextlib.suppress(KeyboardInterrupt), Progress(100, "bits per byte", stream=stream) as progress:
        update(progress, 1)
        update(progress, 2)
        update(progress, 3, value=1.5)
        raise KeyboardInterrupt
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1/100", "3/100"]
    assert "  1.500 bits/byte  " in lines[1]


def test_messages_are_lines_of_their_own(clock):
    stream = io.StringIO()
    with Progress(10, "bits per byte", stream=stream) as progress:
        progress.message("checkpoint [bold]kept[/bold]")
    assert stream.getvalue() == "checkpoint [bold]kept[/bold]\n"


def test_no_time_left_is_invented_before_the_first_step(clock):
    stream = io.StringIO()
    with Progress(10, "bits per byte", start_step=5, stream=stream) as progress:
        update(progress, 5)
    assert stream.getvalue().endswith("eta unknown\n")


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_a_terminal_gets_a_bar_with_every_figure(monkeypatch, columns):
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", columns)
    stream = Terminal()
    with Progress(1500, "bits per byte", stream=stream) as progress:
        update(progress, 200)
        progress.message("checkpoint [bold]kept[/bold]")
    text = stream.getvalue()
    assert "\x1b[" in text
    assert "━" in text
    for figure in ("200/1500", "2.913", "bits/byte", "3,412", "1.2", "GiB", "eta"):
        assert figure in text
    assert "checkpoint [bold]kept[/bold]\n" in text
    assert "…" not in text


@pytest.mark.parametrize("missing", [True, False])
def test_without_rich_or_on_a_dumb_terminal_lines_are_plain(monkeypatch, missing):
    if missing:
        monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setenv("TERM", "xterm" if missing else "dumb")
    stream = Terminal()
    with Progress(10, "bits per byte", stream=stream) as progress:
        update(progress, 1)
    assert stream.getvalue().startswith("step 1/10  2.913 bits/byte")
    assert "\x1b" not in stream.getvalue()


def test_standard_error_is_the_default(capsys):
    with Progress(10, "bits per byte") as progress:
        progress.message("hello")
    assert capsys.readouterr() == ("", "hello\n")


def test_formats():
    assert [format_bytes(size) for size in (0, 2**20, 812 * 2**20, 2**30, 78 * 2**30)] == [
        "0 KiB",
        "1 MiB",
        "812 MiB",
        "1.0 GiB",
        "78.0 GiB",
    ]
    assert [format_duration(s) for s in (-1, 0, 59.6, 312, 3600, 90_061)] == [
        "00:00",
        "00:00",
        "01:00",
        "05:12",
        "1:00:00",
        "25:01:01",
    ]

"""A subject in a process of its own: its memory is its own, and if the system kills it nobody else is lost.

The child makes one object and then calls its methods, one after the other, until its parent closes the pipe. Whatever it prints
goes to standard error.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from reproduction.case import NotRun
from reproduction.rows import OUT_OF_MEMORY

_PARENT_DEATH_SIGNAL = 1


class Worker:
    """The parent's end. A call after the child's death starts a new child."""

    def __init__(self, subject: Callable[..., Any], **arguments: Any) -> None:
        self._subject, self._arguments = subject, arguments
        self._child: tuple[SpawnProcess, Connection] | None = None

    def call(self, method: str, *, timeout: float | None = None, **arguments: Any) -> Any:
        """What the method returns. Raises NotRun if it fails, runs out of memory or is not back after ``timeout`` s."""
        if self._child is None:
            self._start()
            try:
                self._reply(timeout)
            except NotRun:
                self.close()
                raise
        assert self._child is not None
        # A child that died since its last reply is found out by the missing one.
        with suppress(BrokenPipeError):
            self._child[1].send((method, arguments))
        return self._reply(timeout)

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            process, connection = self._child
            self._child = None
            process.kill()
            process.join()
            connection.close()

    def fresh(self) -> Worker:
        """Another one of the same subject, in a process that has done nothing yet."""
        return Worker(self._subject, **self._arguments)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._subject, self._arguments), daemon=True)
        process.start()
        # The last copy but the child's own: its death ends the pipe.
        theirs.close()
        self._child = process, ours

    def _reply(self, timeout: float | None) -> Any:
        assert self._child is not None
        process, connection = self._child
        try:
            if not connection.poll(timeout):
                raise NotRun(f"stopped after {timeout:,.0f} s")
            reason, result = connection.recv()
        except (EOFError, ConnectionResetError):
            process.join()
            code = process.exitcode
            self.close()
            raise NotRun(
                f"{OUT_OF_MEMORY}: killed by the system" if code == -9 else f"its process ended with {code}"
            ) from None
        except BaseException:
            self.close()
            raise
        if reason is not None:
            raise NotRun(reason)
        return result


def _serve(connection: Connection, subject: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """The child's loop: a pair (reason why not, result) for the subject itself, and for each call."""
    os.dup2(2, 1)
    _yield_to_parent()
    reason, made = _tried(subject, arguments)
    connection.send((reason, None))
    with suppress(EOFError):
        while reason is None:
            method, named = connection.recv()
            connection.send(_tried(getattr(made, method), named))


def _yield_to_parent() -> None:
    # The parent decides what an interrupt means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # If memory runs out the system shall end this process and not another ...
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    # ... and if the parent is killed, this one must not go on for hours.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _tried(function: Callable[..., Any], arguments: dict[str, Any]) -> tuple[str | None, Any]:
    """(None, result), or (why there is none, None)."""
    try:
        return None, function(**arguments)
    except Exception as error:
        words = " ".join(str(error).split())
        if isinstance(error, NotRun):
            return words, None
        lacks = (
            isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in words
        )
        return OUT_OF_MEMORY if lacks else f"failed: {type(error).__name__}: {words[:300]}", None

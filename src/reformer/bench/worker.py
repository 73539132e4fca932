"""A contender in a process of its own: its memory is its own, and if the system kills it nobody else is lost.

The child makes one object (``factory``, "module:name", called with JSON arguments) and then calls its methods, one JSON
line in and one out, until its standard input ends. Whatever else it prints goes to standard error.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from reformer.bench.timing import NotRun

_OUT_OF_MEMORY = "out of memory"
_PARENT_DEATH_SIGNAL = 1


class Worker:
    """The parent's end. A call after the child's death starts a new child."""

    def __init__(self, factory: str, **arguments: Any) -> None:
        self._start = {"factory": factory, "arguments": arguments}
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, method: str, *, timeout: float | None = None, **arguments: Any) -> Any:
        """What the method returns. Raises NotRun if it fails, runs out of memory or is not back after ``timeout`` s."""
        if self._process is None:
            self._process = _spawn()
            self._ask(self._start, timeout)
        return self._ask({"method": method, "arguments": arguments}, timeout)

    def close(self) -> None:
        """End the child, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            # What was not yet written to a killed child does not matter.
            with suppress(OSError):
                stream.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, message: dict[str, Any], timeout: float | None) -> Any:
        process = self._process
        assert process is not None and process.stdin is not None
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            line = _read_line(process, timeout)
        except BrokenPipeError:
            line = b""
        except TimeoutError:
            self.close()
            raise NotRun(f"stopped after {timeout:,.0f} s") from None
        except BaseException:
            self.close()
            raise
        if not line:
            code = process.wait()
            self.close()
            raise NotRun(f"{_OUT_OF_MEMORY}: killed by the system" if code == -9 else f"its process ended with {code}")
        reply = json.loads(line)
        if "not_run" in reply:
            if "factory" in message:
                self.close()
            raise NotRun(reply["not_run"])
        return reply["result"]


class InThisProcess:
    """The calls of a ``Worker`` without a process of its own: on a GPU torch counts the bytes of the tensors.

    What the process held before counts in a subject's peak.
    """

    def __init__(self, factory: str, **arguments: Any) -> None:
        self._subject = self._tried(_made, factory, arguments)

    def call(self, method: str, **arguments: Any) -> Any:
        """What the method returns. Raises NotRun if it fails or runs out of memory."""
        return self._tried(getattr(self._subject, method), **arguments)

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        import torch

        self._subject = None
        torch.cuda.empty_cache()

    @staticmethod
    def _tried(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except Exception as error:
            raise NotRun(_reason(error)) from error


def subject_on(device: str, factory: str, **arguments: Any) -> Worker | InThisProcess:
    """A subject whose memory can be measured on ``device``, which its factory is told of."""
    kind = InThisProcess if device == "cuda" else Worker
    return kind(factory, device=device, **arguments)


def is_out_of_memory(reason: str) -> bool:
    """Whether a NotRun's reason is a lack of memory: trying again would not help."""
    return reason.startswith(_OUT_OF_MEMORY)


def _spawn() -> subprocess.Popen[bytes]:
    # The child must find this package and the caller's modules wherever this process found them.
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-m", "reformer.bench.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )


def _read_line(process: subprocess.Popen[bytes], timeout: float | None) -> bytes:
    assert process.stdout is not None
    # The child writes a line at once, and nothing unasked: once there is something, the whole line comes.
    if not select.select([process.stdout], [], [], timeout)[0]:
        raise TimeoutError
    return process.stdout.readline()


def serve() -> None:
    """The child's loop."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _yield_to_parent()
    subject: Any = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if "factory" in message:
                subject, result = _made(message["factory"], message["arguments"]), None
            else:
                result = getattr(subject, message["method"])(**message["arguments"])
            reply = {"result": result}
        except Exception as error:
            reply = {"not_run": _reason(error)}
        replies.write(json.dumps(reply) + "\n")


def _made(factory: str, arguments: dict[str, Any]) -> Any:
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)(**arguments)


def _yield_to_parent() -> None:
    # The parent decides what an interrupt means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # If memory runs out the system shall end this process and not another ...
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    # ... and if the parent is killed, this one must not go on for hours.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())
    if isinstance(error, NotRun):
        return words
    lacks = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in words
    return _OUT_OF_MEMORY if lacks else f"failed: {type(error).__name__}: {words[:300]}"


if __name__ == "__main__":
    serve()

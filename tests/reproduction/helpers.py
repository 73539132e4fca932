"""Subjects for workers, and rows, that cost nothing."""

import os
import time

from reproduction.case import NotRun
from reproduction.rows import Row

COMMON: Row = {"code": {"commit": "abc", "dirty": False}, "hardware": {"cpu": "a cpu", "gpus": []}}


class Subject:
    """What a worker's process can meet."""

    def __init__(self, start: int = 0) -> None:
        if start < 0:
            raise ValueError("start must be at least 0")
        self.total = start

    def add(self, number: int) -> int:
        print("a library that prints")
        self.total += number
        return self.total

    def refuse(self) -> None:
        raise NotRun("not today")

    def fail(self) -> None:
        raise KeyError("a defect\nin two lines")

    def exhaust(self) -> None:
        raise MemoryError

    def be_killed(self) -> None:
        os.kill(os.getpid(), 9)

    def hang(self) -> None:
        time.sleep(60)


def attention_row(contender: str, seq_len: int, median_s: float, **more) -> Row:
    """A row of the attention benchmark."""
    hashing = {"n_hashes": None, "chunk_len": None} if contender == "sdpa" else {"n_hashes": 4, "chunk_len": 64}
    times = {"median_s": median_s, "q1_s": median_s, "q3_s": median_s, "min_s": median_s, "repeats": 3}
    shape = {"batch": 1, "seq_len": seq_len, "n_heads": 8, "head_dim": 64, "dtype": "float32"}
    run = {"benchmark": "attention", "contender": contender, "direction": "forward+backward"}
    software = {"torch": "2", "python": "3"}
    machine = {**COMMON, "hardware": {**COMMON["hardware"], "torch_threads": 2}, "software": software}
    return {
        **run,
        "device": "cpu",
        "threads": 2,
        **shape,
        **hashing,
        **times,
        "date": "2026-01-01T00:00:00",
        **machine,
        **more,
    }

"""A process of its own: what it returns, and every way in which it can fail."""

import pytest
from tests.reproduction.helpers import Subject

from reproduction.case import NotRun
from reproduction.rows import is_out_of_memory
from reproduction.worker import Worker


def test_calls_reach_one_object_whatever_it_prints():
    with Worker(Subject, start=2) as worker:
        assert worker.call("add", number=3) == 5
        assert worker.call("add", number=4) == 9


def test_failures_are_one_line_and_the_object_lives_on():
    with Worker(Subject) as worker:
        with pytest.raises(NotRun, match=r"^not today$"):
            worker.call("refuse")
        with pytest.raises(NotRun, match=r"^failed: KeyError: .*a defect") as caught:
            worker.call("fail")
        assert "\n" not in str(caught.value)
        with pytest.raises(NotRun) as caught:
            worker.call("exhaust")
        assert is_out_of_memory({"not_run": str(caught.value)})
        assert worker.call("add", number=1) == 1


def test_a_killed_process_counts_as_out_of_memory_and_is_replaced():
    with Worker(Subject, start=5) as worker:
        with pytest.raises(NotRun) as caught:
            worker.call("be_killed")
        assert is_out_of_memory({"not_run": str(caught.value)})
        assert worker.call("add", number=1) == 6


def test_a_call_that_hangs_is_ended():
    with Worker(Subject) as worker:
        assert worker.call("add", number=1) == 1
        with pytest.raises(NotRun, match="stopped after"):
            worker.call("hang", timeout=0.2)
        assert worker.call("add", number=2) == 2


def test_what_cannot_start_says_why():
    with Worker(Subject, start=-1) as worker, pytest.raises(NotRun, match="start must be at least 0"):
        worker.call("add", number=1)

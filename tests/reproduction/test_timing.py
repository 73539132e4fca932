"""Contenders take turns, and what is said of their times is right."""

import pytest

from reformer.bench.timing import NotRun, Plan, interleave, plan, predict, probe_length, seconds_of, summary


def test_contenders_take_turns_in_an_order_drawn_anew():
    calls, finished = [], {}

    def runner(name, seconds):
        def run():
            calls.append(name)
            return seconds

        return run

    interleave(
        {name: runner(name, seconds) for name, seconds in (("a", 1.0), ("b", 2.0), ("c", 3.0))},
        {"a": 8, "b": 8, "c": 2},
        seed=0,
        finished=lambda name, samples: finished.update({name: samples}),
        failed=lambda name, reason: pytest.fail(name),
    )
    assert finished == {"a": [1.0] * 8, "b": [2.0] * 8, "c": [3.0] * 2}
    # Nobody runs twice before everybody who still has runs to do ran once.
    rounds = [calls[:3], calls[3:6], *(calls[index : index + 2] for index in range(6, len(calls), 2))]
    assert [sorted(turn) for turn in rounds] == [["a", "b", "c"]] * 2 + [["a", "b"]] * 6
    assert len({tuple(turn) for turn in rounds[2:]}) == 2


def test_a_contender_that_fails_leaves_the_others_alone():
    def fails():
        raise NotRun("out of memory")

    finished, failed = {}, {}
    interleave(
        {"a": fails, "b": lambda: 1.0},
        {"a": 3, "b": 3},
        seed=0,
        finished=lambda name, samples: finished.update({name: samples}),
        failed=lambda name, reason: failed.update({name: str(reason)}),
    )
    assert finished == {"b": [1.0, 1.0, 1.0]}
    assert failed == {"a": "out of memory"}


def test_medians_and_quartiles():
    assert summary([5.0, 1.0, 2.0, 100.0, 3.0]) == {
        "median_s": 3.0,
        "q1_s": 2.0,
        "q3_s": 5.0,
        "min_s": 1.0,
        "repeats": 5,
    }
    assert summary([2.0])["q3_s"] == 2.0


def test_prediction_grows_as_it_grew_between_linear_and_quadratic():
    assert predict([], 1024, 2.0) is None
    assert predict([(2048, 1.0)], 1024, 2.0) is None
    assert predict([(512, 1.0)], 1024, 2.0) == pytest.approx(4.0)
    assert predict([(256, 1.0), (512, 2.0)], 1024, 2.0) == pytest.approx(4.0)
    assert predict([(256, 1.0), (512, 16.0)], 1024, 1.0) == pytest.approx(64.0)
    assert predict([(256, 1.0), (512, 1.0)], 1024, 1.0) == pytest.approx(2.0)


def test_only_long_inputs_are_probed_first():
    assert probe_length(2048) is None
    assert probe_length(4096) == 1024
    assert probe_length(1_048_576) == 131_072


def test_repeats_fit_into_the_limit_of_a_row():
    assert plan(1.0, max_seconds=100, repeats=5, warmed=False) == Plan(warmups=1, repeats=5)
    assert plan(30.0, max_seconds=100, repeats=5, warmed=False) == Plan(warmups=1, repeats=2)
    assert plan(40.0, max_seconds=100, repeats=5, warmed=False) == Plan(warmups=0, repeats=2)
    assert plan(90.0, max_seconds=100, repeats=5, warmed=False) == Plan(warmups=0, repeats=1)
    with pytest.raises(NotRun, match="predicted 235 s, more than the 120 s"):
        plan(235.0, max_seconds=120, repeats=5, warmed=False)


def test_a_short_call_is_repeated_until_the_clock_can_tell():
    calls = []
    assert seconds_of(lambda: calls.append(1), "cpu") < 0.02
    assert len(calls) > 10
    calls.clear()
    seconds_of(lambda: calls.append(1), "cpu", least_s=0.0)
    assert len(calls) == 1

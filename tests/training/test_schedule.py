import math

import pytest

from reformer.tasks.config import OptimizerConfig
from reformer.training.optim import learning_rate


def paper_schedule(step, **options):
    return learning_rate(OptimizerConfig(schedule="rsqrt", **options), step, 100)


def cosine_schedule(step, *, total_steps, **options):
    return learning_rate(OptimizerConfig(schedule="cosine", **options), step, total_steps)


def constant_schedule(step, **options):
    return learning_rate(OptimizerConfig(schedule="constant", **options), step, 100)


def test_paper_schedule_is_the_formula_with_its_peak_at_the_end_of_the_warm_up():
    rates = [paper_schedule(step, lr=2.0, warmup_steps=8000) for step in range(1, 60_001)]
    assert rates[0] == pytest.approx(2.0 / 8000 / math.sqrt(8000))
    assert rates[3999] == pytest.approx(1.0 / math.sqrt(8000))
    assert rates[31_999] == pytest.approx(2.0 / math.sqrt(32_000))
    assert max(rates) == rates[7999] == pytest.approx(2.0 / math.sqrt(8000))


def test_paper_schedule_without_warm_up_is_rsqrt_from_the_first_step():
    assert [paper_schedule(step, lr=1.0, warmup_steps=0) for step in (1, 4, 100)] == pytest.approx([1.0, 0.5, 0.1])


def test_cosine_goes_from_the_peak_to_its_final_fraction_and_stays():
    def rate(step):
        return cosine_schedule(step, lr=3.0, warmup_steps=10, total_steps=110, final_fraction=0.1)

    assert [rate(step) for step in (1, 5, 10)] == pytest.approx([0.3, 1.5, 3.0])
    assert rate(60) == pytest.approx(3.0 * 0.55)
    assert rate(110) == rate(500) == pytest.approx(0.3)
    falling = [rate(step) for step in range(10, 111)]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (0, 10), (10, 10), (20, 10)])
def test_cosine_at_its_edges(warmup, total):
    values = [
        cosine_schedule(step, lr=1.0, warmup_steps=warmup, total_steps=total, final_fraction=0.0)
        for step in range(1, 40)
    ]
    assert all(0 <= value <= 1 for value in values)
    assert values[max(warmup, total)] == 0


def test_constant_is_constant_after_its_warm_up():
    rates = [constant_schedule(step, lr=0.5, warmup_steps=2) for step in (1, 2, 3, 1000)]
    assert rates == [0.25, 0.5, 0.5, 0.5]
    assert constant_schedule(1, lr=0.5, warmup_steps=0) == 0.5


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="schedule must be one of 'rsqrt', 'cosine', 'constant', got 'linear'"):
        OptimizerConfig(schedule="linear")


@pytest.mark.parametrize(
    ("step", "warmup", "fact"), [(0, 10, "step >= 1"), (-1, 0, "step >= 1"), (1, -1, "warmup_steps must be at least 0")]
)
def test_impossible_steps_are_refused(step, warmup, fact):
    with pytest.raises(ValueError, match=fact):
        paper_schedule(step, lr=1.0, warmup_steps=warmup)
    with pytest.raises(ValueError, match="final_fraction"):
        cosine_schedule(1, lr=1.0, warmup_steps=0, total_steps=1, final_fraction=2.0)

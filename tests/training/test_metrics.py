import json
import math
import sys

import numpy as np
import pytest
import torch

from reformer.training.metrics import METRICS_FILE, MetricsLog, json_safe, read_metrics


@pytest.fixture
def no_tensorboard(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def record(step, **values):
    return {"step": step, "kind": "train", **values}


def loss(step, value):
    return record(step, metric="bits per byte", value=value)


def write(directory, steps, resume_step=None):
    with MetricsLog(directory, resume_step) as log:
        for step in steps:
            log.write(loss(step, 8 / step))
    return log.path


def steps(path):
    return [entry["step"] for entry in read_metrics(path)]


def strict(text):
    def refuse(constant):
        raise AssertionError(f"not strict JSON: {constant}")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def mirrored(directory):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory / "tensorboard"))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.usefixtures("no_tensorboard")
def test_records_come_back_as_they_went_with_non_finite_numbers_in_strict_json(tmp_path):
    records = [
        record(1, value=0.1 + 0.2, lr=1e-30, note="é", nothing=None, flag=True),
        record(2, value=math.nan, up=math.inf, down=-math.inf),
        {"step": 2, "kind": "validation", "value": 1.5},
    ]
    with MetricsLog(tmp_path / "run") as log:
        for each in records:
            log.write(each)
    plain = strict(log.path.read_text())
    assert plain[1] == record(2, value="NaN", up="Infinity", down="-Infinity")
    back = read_metrics(tmp_path / "run" / METRICS_FILE)
    assert math.isnan(back[1].pop("value"))
    del records[1]["value"]
    assert back == records


@pytest.mark.usefixtures("no_tensorboard")
def test_a_record_is_in_the_file_before_the_log_is_closed(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(record(1))
    assert steps(log.path) == [1]
    log.flush()
    log.close()
    log.close()


@pytest.mark.usefixtures("no_tensorboard")
@pytest.mark.parametrize(
    ("resume_step", "expected"), [(3, [1, 2, 3, 7]), (0, [7]), (9, [1, 2, 3, 4, 5, 7]), (None, [1, 2, 3, 4, 5, 7])]
)
def test_resuming_drops_later_records(tmp_path, resume_step, expected):
    write(tmp_path, range(1, 6))
    assert steps(write(tmp_path, [7], resume_step)) == expected
    assert [path.name for path in tmp_path.iterdir()] == [METRICS_FILE]


@pytest.mark.usefixtures("no_tensorboard")
def test_a_line_torn_anywhere_is_dropped_and_the_log_goes_on(tmp_path):
    path = write(tmp_path, [1, 2, 3])
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start, len(whole) + 1):
        path.write_bytes(whole[:end])
        kept = [1, 2, 3] if end >= len(whole) - 1 else [1, 2]
        assert steps(path) == kept
        assert steps(write(tmp_path, [4])) == [*kept, 4]


@pytest.mark.usefixtures("no_tensorboard")
def test_damage_elsewhere_is_named_and_nothing_is_lost(tmp_path):
    path = write(tmp_path, [1, 2, 3])
    damaged = path.read_bytes().replace(b'"step": 2', b'"step": x')
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="line 2 is not a record"):
        read_metrics(path)
    with pytest.raises(ValueError, match="line 2"):
        MetricsLog(tmp_path, resume_step=1)
    assert path.read_bytes() == damaged


@pytest.mark.usefixtures("no_tensorboard")
def test_records_without_step_or_kind_are_refused(tmp_path):
    with MetricsLog(tmp_path) as log:
        for bad in ({"step": 1}, {"kind": "train"}, {"step": "1", "kind": "train"}):
            with pytest.raises(ValueError, match='integer "step" and a "kind"'):
                log.write(bad)
    assert log.path.read_text() == ""


@pytest.mark.usefixtures("no_tensorboard")
def test_without_tensorboard_there_is_a_notice_and_no_mirror(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(loss(1, 1.0))
    assert "pip install tensorboard" in log.notice
    assert not (tmp_path / "tensorboard").exists()


def test_numbers_are_mirrored_to_tensorboard_and_later_ones_purged_on_resume(tmp_path):
    pytest.importorskip("tensorboard")
    with MetricsLog(tmp_path) as log:
        assert log.notice is None
        for step in (1, 2, 3):
            log.write({**loss(step, float(step)), "name": "text", "flag": True, "nothing": None})
    assert mirrored(tmp_path) == {"train/bits_per_byte": [(1, 1.0), (2, 2.0), (3, 3.0)]}
    with MetricsLog(tmp_path, resume_step=1) as log:
        log.write(loss(2, 20.0))
        log.write({**loss(2, math.nan), "kind": "validation"})
    after = mirrored(tmp_path)
    assert after["train/bits_per_byte"] == [(1, 1.0), (2, 20.0)]
    assert math.isnan(after["validation/bits_per_byte"][0][1])


def test_json_safe_takes_what_a_training_loop_has(tmp_path):
    values = {"tensor": torch.tensor(2.5), "numpy": np.float32(0.5), 3: (1, {2}), "path": tmp_path, "dtype": torch.int8}
    assert json_safe(values) == {
        "tensor": 2.5,
        "numpy": 0.5,
        "3": [1, [2]],
        "path": str(tmp_path),
        "dtype": "torch.int8",
    }
    assert json_safe(torch.tensor([math.nan])) == "NaN"
    assert isinstance(json_safe(torch.ones(2)), str)

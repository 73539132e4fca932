"""The mean of the last checkpoints."""

import pytest
import torch

from reformer.training.checkpoint import CheckpointError, average_checkpoints, save_checkpoint


def save(root, step: int, **tensors):
    save_checkpoint(root, step, {"model": tensors}, {}, keep_last=10)


def test_the_mean_of_the_newest(tmp_path):
    for step, value in ((1, 100.0), (2, 1.0), (3, 2.0), (4, 6.0)):
        weights = torch.full((2, 3), value, dtype=torch.bfloat16)
        save(tmp_path, step, a=weights, b=torch.tensor([value]), n=torch.tensor(step))
    mean, steps = average_checkpoints(tmp_path, 3)
    assert steps == [2, 3, 4]
    assert torch.equal(mean["a"], torch.full((2, 3), 3.0, dtype=torch.bfloat16))
    assert torch.equal(mean["b"], torch.tensor([3.0])) and mean["n"].item() == 4
    assert average_checkpoints(tmp_path, 1)[0]["b"].item() == 6.0


def test_sums_do_not_round_in_the_dtype_of_the_weights(tmp_path):
    values = [1.0, 1.0, 1.0 + 2**-7]
    for step, value in enumerate(values):
        save(tmp_path, step, a=torch.tensor([value * 256], dtype=torch.bfloat16))
    mean, _ = average_checkpoints(tmp_path, 3)
    assert mean["a"].double().item() == torch.tensor(256 * sum(values) / 3).bfloat16().double().item()


def test_too_few_checkpoints_or_other_tensors_are_refused(tmp_path):
    save(tmp_path, 1, a=torch.zeros(1))
    for n in (0, 2):
        with pytest.raises(ValueError, match="holds 1 checkpoints"):
            average_checkpoints(tmp_path, n)
    save(tmp_path, 2, b=torch.zeros(1))
    with pytest.raises(CheckpointError, match="other tensors"):
        average_checkpoints(tmp_path, 2)

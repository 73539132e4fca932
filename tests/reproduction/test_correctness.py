"""Nothing is measured while an op is wrong."""

import pytest

from reformer.cli.main import main
from reproduction.benchmarks import correctness
from reproduction.benchmarks.correctness import OpsIncorrect, require_correct


def test_the_implementations_of_this_machine_are_checked():
    checked = require_correct("cpu", ("float32", "bfloat16"))
    assert {"eager (float32)", "eager (bfloat16)"} <= set(checked)


@pytest.mark.parametrize("op", ["lsh_attention", "local_attention"])
def test_a_wrong_gradient_is_refused(op, monkeypatch):
    right = getattr(correctness, op)

    def wrong(*tensors, impl, **options):
        out, lse = right(*tensors, impl=impl, **options)
        if impl == "eager":
            # The output stays right; its gradient is 2% off.
            out = out + 0.02 * (out - out.detach())
        return out, lse

    monkeypatch.setattr(correctness, op, wrong)
    with pytest.raises(OpsIncorrect, match=rf"impl='eager' is wrong in float32: {op}.*grad"):
        require_correct("cpu", ("float32",))


def test_a_wrong_bucket_is_refused(monkeypatch):
    right = correctness.hash_vectors

    def wrong(x, rotations, n_buckets):
        buckets = right(x, rotations, n_buckets)
        buckets[0, 0, 0, 7] ^= 1
        return buckets

    monkeypatch.setattr(correctness, "hash_vectors", wrong)
    with pytest.raises(OpsIncorrect, match=r"hashing is wrong in float32: .* below the largest"):
        require_correct("cpu", ("float32",))


def test_an_unstable_sort_is_refused(monkeypatch):
    monkeypatch.setattr(correctness, "sort_by_bucket", lambda buckets: buckets.flip(-1).argsort(-1))
    with pytest.raises(OpsIncorrect, match="not the stable one"):
        require_correct("cpu", ("float32",))


@pytest.mark.parametrize("benchmark", ["attention", "model", "memory"])
def test_the_command_refuses_with_one_line(benchmark, monkeypatch, capsys, tmp_path):
    def wrong(*arguments):
        raise AssertionError("out0: rms error 1 is beyond\nthe budget 0")

    monkeypatch.setattr(correctness, "_check_lsh", wrong)
    code = main(["bench", benchmark, "--preset", "toy", "--device", "cpu", "--out", str(tmp_path / "rows.jsonl")])
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("error: no benchmark while impl=")
    assert not (tmp_path / "rows.jsonl").exists()

import json
import platform
import shutil
import subprocess
import sys

import pytest
import torch

import reformer
from reformer.training import environment as module
from reformer.training.environment import code_version, environment, peak_memory_bytes, reset_peak_memory


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("needs git")
    package = tmp_path / "src" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (tmp_path / "README.md").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_environment_is_json_with_exact_versions():
    facts = json.loads(json.dumps(environment()))
    assert facts["software"]["torch"] == torch.__version__
    assert facts["software"]["python"].startswith(platform.python_version())
    assert facts["hardware"]["torch_threads"] == torch.get_num_threads()
    assert facts["hardware"]["memory_bytes"] > 2**28
    assert facts["hardware"]["cpu"]
    assert len(facts["hardware"]["gpus"]) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    assert platform.node() not in json.dumps(facts) or len(platform.node()) < 4


def test_a_missing_package_is_said_to_be_missing():
    assert module.package_version("surely-no-such-package") == "not installed"


def test_code_version_never_fails():
    facts = code_version()
    assert facts["version"] == reformer.__version__
    assert facts["commit"] is None or len(facts["commit"]) >= 40
    assert facts["dirty"] in (None, True, False)


def test_a_clean_checkout_and_what_makes_it_dirty(checkout):
    package = checkout / "src" / "package"
    head = git(checkout, "rev-parse", "HEAD")
    assert module._git_state(package) == {"commit": head, "dirty": False}
    (checkout / "notes.txt").write_text("beside the package, untracked: not code of ours")
    assert module._git_state(package)["dirty"] is False
    (package / "new.py").write_text("untracked code")
    assert module._git_state(package)["dirty"] is True
    (package / "new.py").unlink()
    (checkout / "README.md").write_text("changed")
    assert module._git_state(package) == {"commit": head, "dirty": True}


def test_rows_of_results_are_no_code(checkout):
    package = checkout / "src" / "package"
    (checkout / "results").mkdir()
    (checkout / "results" / "table.jsonl").write_text("a row\n")
    (checkout / "docs" / "results").mkdir(parents=True)
    for made in ("results.md", "results.html", "results/figure.svg"):
        (checkout / "docs" / made).write_text("the report of one row\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "first row")
    (checkout / "results" / "table.jsonl").write_text("a row\nanother\n")
    assert module._git_state(package)["dirty"] is False
    for made in ("results.md", "results.html", "results/figure.svg"):
        (checkout / "docs" / made).write_text("the report of two rows\n")
    assert module._git_state(package)["dirty"] is False
    (checkout / "README.md").write_text("changed")
    assert module._git_state(package)["dirty"] is True


def test_a_package_at_the_top_of_its_checkout(tmp_path, checkout):
    git(checkout, "mv", "src/package/__init__.py", "__init__.py")
    git(checkout, "commit", "-qm", "second")
    assert module._git_state(checkout)["dirty"] is False
    (checkout / "new.py").write_text("")
    assert module._git_state(checkout)["dirty"] is True


def test_a_package_installed_inside_another_projects_checkout_has_no_commit(checkout):
    site = checkout / "venv" / "package"
    site.mkdir(parents=True)
    (site / "__init__.py").write_text("")
    assert module._git_state(site) == {"commit": None, "dirty": None}


def test_outside_a_checkout_or_without_git_there_is_no_commit(tmp_path, monkeypatch):
    unknown = {"commit": None, "dirty": None}
    assert module._git_state(tmp_path / "missing") == unknown
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module._git_state(tmp_path) == unknown


def test_a_git_hooks_variables_do_not_mislead(checkout, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert module._git_state(checkout / "src" / "package")["commit"] is not None


def test_peak_memory_rises_with_use():
    before = peak_memory_bytes("cpu")
    assert before > 2**24
    block = torch.ones(2**26 + before // 4)
    assert peak_memory_bytes(torch.device("cpu")) >= block.nbytes
    del block


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset the peak of a process")
def test_peak_memory_can_be_reset():
    block = torch.ones(2**26)
    with_block = peak_memory_bytes("cpu")
    size = block.nbytes
    del block
    reset_peak_memory("cpu")
    if peak_memory_bytes("cpu") == with_block:
        pytest.skip("this system does not let a process reset its peak")
    assert peak_memory_bytes("cpu") < with_block - size // 2


def test_the_fallback_agrees_with_the_peak_in_proc():
    peak = module._linux_peak()
    if peak is not None:
        assert module._getrusage_peak() == pytest.approx(peak, rel=0.5)
    assert module._getrusage_peak() > 2**24


def test_systems_without_proc_fall_back(monkeypatch):
    class Missing:
        def __init__(self, *_):
            pass

        def read_text(self):
            raise FileNotFoundError

        def write_text(self, _):
            raise PermissionError

    monkeypatch.setattr(module, "Path", Missing)
    reset_peak_memory("cpu")
    assert peak_memory_bytes("cpu") == module._getrusage_peak()
    assert module._cpu_model()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_peak_memory_on_cuda():
    reset_peak_memory("cuda")
    before = peak_memory_bytes("cuda")
    block = torch.ones(2**20, device="cuda")
    assert peak_memory_bytes("cuda") >= before + block.nbytes
    del block
    reset_peak_memory("cuda")
    assert peak_memory_bytes("cuda") == before


def test_processors_of_one_name_are_told_apart_by_their_generation(monkeypatch):
    first = "processor : 0\nvendor_id : X\ncpu family : 23\nmodel : 1\nmodel name : A Brand\nstepping : 2\n\n"
    second = "processor : 1\ncpu family : 99\nmodel : 9\nmodel name : Another\nstepping : 9\n"
    monkeypatch.setattr(module.Path, "read_text", lambda self, *_: first + second)
    assert module._cpu_model() == "A Brand (cpu family 23, model 1, stepping 2)"
    monkeypatch.setattr(module.Path, "read_text", lambda self, *_: "model name : Plain\n")
    assert module._cpu_model() == "Plain"

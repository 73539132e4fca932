"""Every Triton kernel compiles for every supported GPU, without spills, within its shared memory, with wide offsets.

No GPU is needed to compile. In a process of its own, for Triton's interpreter must be off.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.timeout(1200),
]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("capability", ["80", "90", "100"])
def test_no_spills_and_no_narrow_offsets(capability: str):
    done = run(str(ROOT / "benchmarks" / "kernel_resources.py"), "--quick", capability)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "54 kernels, 0 unfit" in done.stdout


_NARROW = """
import sys
sys.path.insert(0, "benchmarks")
import triton
import triton.language as tl
from kernel_resources import narrow_offsets
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

source = sys.argv[1]
path = sys.argv[2]
open(path, "w").write(
    "import triton\\nimport triton.language as tl\\n@triton.jit\\ndef kernel(x, n, L):\\n    tl.store(x + " + source + ", 1.0)\\n"
)
sys.path.insert(0, path.rsplit("/", 1)[0])
import kernel
compiled = triton.compile(
    ASTSource(fn=kernel.kernel, signature={"x": "*fp32", "n": "i32", "L": "i32"}), target=GPUTarget("cuda", 90, 32)
)
print(len(narrow_offsets(compiled.asm["ttir"])))
"""


@pytest.mark.parametrize(
    ("offset", "found"),
    [
        ("n * L", 1),
        ("(n * L).to(tl.int64)", 1),
        ("(n * L + 5).to(tl.int64)", 1),
        ("n.to(tl.int64) * L", 0),
        ("n.to(tl.int64) * L + L", 0),
        ("n", 0),
    ],
)
def test_the_check_of_offsets_can_fail(offset: str, found: int, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _NARROW, offset, str(tmp_path / "kernel.py")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
    )
    assert done.stdout.strip() == str(found), done.stdout + done.stderr[-2000:]


_STRAY = """
import sys
sys.path.insert(0, "benchmarks")
from kernel_resources import stray_descriptors
print(len(stray_descriptors(sys.argv[1])))
"""
# What the assembler of CUDA 12.8 wrote, and what it should have: a descriptor from an address in shared memory.
_LISTING = """
        /*00a0*/                   ULDC.64 UR12, c[0x0][0x278] ;
        /*05c0*/                   IADD3 R2, P1, R8.reuse, UR12, RZ ;
        /*0600*/                   UISETP.NE.AND UP0, UPT, UR12, URZ, UPT ;
        {made}
        /*1660*/                   UIADD3 UR12, UP0, UR12, 0x20, URZ ;
        /*18a0*/                   UMOV UR26, UR12 ;
        /*5270*/              @!P3 HGMMA.64x16x16.F32.BF16 R56, R28, gdesc[UR24].tnspB, R56 ;
"""


@pytest.mark.parametrize(("made", "found"), [("", 1), ("/*1500*/   USGXT.U32 UR12, UR5, 0xe ;", 0)])
def test_the_check_of_descriptors_can_fail(made: str, found: int):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _STRAY, _LISTING.format(made=made)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
    )
    assert done.stdout.strip() == str(found), done.stdout + done.stderr[-2000:]


_WITHOUT = """
import sys
sys.modules["triton"] = None  # as if it were not installed
import torch
from reformer.ops import choose_implementation, hash_vectors, random_rotations
assert "Triton is not installed" in choose_implementation("auto", torch.device("cpu")).reason
hash_vectors(torch.ones(1, 1, 3, 4), random_rotations(4, n_hashes=1, n_buckets=4, n_heads=1), 4)
assert not [name for name in sys.modules if name.startswith("reformer.ops.attention.triton.")]
try:
    choose_implementation("triton", torch.device("cpu"))
except ValueError as error:
    assert "pip install triton" in str(error)
else:
    raise AssertionError("not refused")
"""


def test_the_ops_work_without_triton():
    done = run("-c", _WITHOUT)
    assert done.returncode == 0, done.stderr

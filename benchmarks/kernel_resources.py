"""Registers, spills and shared memory of every Triton kernel, compiled for GPUs that need not be there.

    python benchmarks/kernel_resources.py                    everything (about half an hour); writes docs/kernels.md
    python benchmarks/kernel_resources.py --quick 90         each kernel, head size and type once, for compute capability 9.0

A kernel is wrong to ship if it spills, wants more shared memory than the GPU has, computes an offset into memory in 32 bits,
or hands a tensor core a descriptor that was made from a parameter (a bug of CUDA 12.8's assembler, seen on an H200). Exit
status 1 if there is one. Triton's interpreter must be off.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from reformer.ops.attention.triton import LARGEST_WIDTH, backward, forward, hashing, intervals
from reformer.ops.attention.triton.blocks import PLACES, ROWS, Blocks, blocks_for, padded_width, precision
from reformer.ops.attention.triton.plan import STEP

ROOT = Path(__file__).resolve().parent.parent
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
# Shared memory of one block in bytes, by compute capability.
SHARED = {80: 166_912, 90: 232_448, 100: 232_448}
WIDTHS = (16, 32, 64, 128, 256)
TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_NAMES = {**TYPES, torch.int32: "int32"}

_ATTENTION = (forward.forward_kernel, backward.query_gradient_kernel, backward.key_gradient_kernel)
_SHARED_QK = {"SHARED": True, "EXCLUDE_SELF": True, "WRAP": False, "SEGMENTS": False}
# Triton makes a constant of an integer that is 1: a single token, head, round and chunk.
_ONES = {name: 1 for name in ("L", "places", "n_heads", "n_rounds", "chunk")}
_VARIANTS = {
    "intervals": _SHARED_QK,
    "trax": {**_SHARED_QK, "WRAP": True, "SEGMENTS": True},
    "ones": {**_SHARED_QK, **_ONES},
    "ones in trax": {**_SHARED_QK, "WRAP": True, "SEGMENTS": True, **_ONES},
    "local": {**_SHARED_QK, "SHARED": False, "EXCLUDE_SELF": False},
}
_OFTEN = ({"CAUSAL": False, "DROPOUT": True}, {"CAUSAL": True, "DROPOUT": False})

_PLANS = {
    "chunks": {"CHUNKS": True, "CHUNKS_PER_RUN": False, "WINDOW": False},
    "chunks of runs": {"CHUNKS": True, "CHUNKS_PER_RUN": True, "WINDOW": False},
    "window": {"CHUNKS": False, "CHUNKS_PER_RUN": False, "WINDOW": True},
}
_SORTED = {"ORDERED": True, "BUCKETS": True, "SEGMENTS": True, "CAUSAL": False, "EXCLUDE_SELF": True}

_INPUTS = ("q", "k", "v", "out", "do", "x", "a", "b")
_INT32_TABLES = ("order", "bucket", "coded", "rank", "start", "end", "first_seer", "last_seer", "seeds")
_INT64_TABLES = ("segments", "buckets")
_INTEGERS = (
    "r", "first_row", "n_rounds", "L", "places", "n_heads", "chunk", "before", "after", "threshold", "n_columns",
    "first_column", "half", "stride", "n_rows", "n_edges", "window", "steps",
)  # fmt: skip


class Case(NamedTuple):
    """One compilation."""

    kernel: object
    variant: str
    width: int
    dtype: torch.dtype
    capability: int
    blocks: Blocks
    constants: dict


class Resources(NamedTuple):
    """What a compiled kernel takes."""

    registers: int
    spilled: int
    shared: int
    narrow_offsets: list[str]
    stray_descriptors: list[str]


def cases(capabilities: list[int], quick: bool) -> Iterator[Case]:
    """Every kernel, head size, type and variant; ``quick``: the variants at one head size, float16 not at all."""
    for capability in capabilities:
        for dtype in TYPES:
            if quick and dtype == torch.float16:
                continue
            for width in WIDTHS:
                if width <= LARGEST_WIDTH[dtype]:
                    yield from _attention_cases(capability, dtype, width, quick)
        for width in WIDTHS:
            blocks = blocks_for("hash_kernel", width, torch.float32)
            constants = {"BLOCK_C": blocks.n, "PRECISION": precision(torch.float32)}
            for dtype in (torch.float32, torch.bfloat16):
                yield Case(hashing.hash_kernel, "hash", width, dtype, capability, blocks, constants)
        yield Case(forward.row_dots_kernel, "dots", 64, torch.bfloat16, capability, ROWS, {})
        of_places = {"BLOCK": PLACES.m, "STEP": STEP}
        for plan, options in _PLANS.items():
            constants = {**_SORTED, **options, **of_places}
            yield Case(intervals.interval_kernel, plan, 0, torch.int32, capability, PLACES, constants)
        yield Case(intervals.seer_kernel, "seers", 0, torch.int32, capability, PLACES, of_places)


def _attention_cases(capability: int, dtype: torch.dtype, width: int, quick: bool) -> Iterator[Case]:
    for kernel in _ATTENTION:
        for variant, constants in _VARIANTS.items():
            if variant.startswith("ones") and (width, dtype) != (64, torch.bfloat16):
                continue
            if quick and variant != "intervals" and (width, dtype) != (64, torch.bfloat16):
                continue
            for options in _OFTEN[:1] if quick else _OFTEN:
                blocks = blocks_for(kernel.__name__, width, dtype, wrap=constants["WRAP"])
                chosen = {**constants, **options, "BLOCK_N": blocks.n, "PRECISION": precision(dtype), "STEP": STEP}
                yield Case(kernel, variant, width, dtype, capability, blocks, chosen)


def measure(case: Case) -> Resources:
    """Compile a case and read what the assembler says of it."""
    width = case.width
    sizes = {"D": width, "E": width, "WIDTH": width, "BLOCK_M": case.blocks.m}
    sizes |= {name: padded_width(max(width, 1)) for name in ("BLOCK_D", "BLOCK_E", "BLOCK_W")}
    names = case.kernel.arg_names
    constants = {name: value for name, value in {**sizes, **case.constants}.items() if name in names}
    signature = {name: "constexpr" if name in constants else _type(name, case.dtype) for name in names}
    aligned = {(n,): [["tt.divisibility", 16]] for n, name in enumerate(names) if signature[name].startswith("*")}
    compiled = triton.compile(
        ASTSource(fn=case.kernel, signature=signature, constexprs=constants, attrs=aligned),
        target=GPUTarget("cuda", case.capability, 32),
        options=case.blocks.options(),
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        report = subprocess.run(
            [CUOBJDUMP, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
        sass = subprocess.run([CUOBJDUMP, "-sass", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", report)
    assert found is not None, f"cuobjdump says no resources: {report}"
    registers, stack, local = (int(number) for number in found.groups())
    return Resources(
        registers,
        stack + local,
        compiled.metadata.shared,
        narrow_offsets(compiled.asm["ttir"]),
        stray_descriptors(sass),
    )


def _type(name: str, dtype: torch.dtype) -> str:
    if name in _INPUTS:
        return f"*{TYPES[dtype]}"
    if name in _INT32_TABLES:
        return "*i32"
    if name in _INT64_TABLES:
        return "*i64"
    if name in _INTEGERS:
        return "i32"
    if name in ("scale", "keep_scale"):
        return "fp32"
    return "*i8" if name == "alone" else "*fp32"


def narrow_offsets(ttir: str) -> list[str]:
    """The pointer additions whose offset is a product of 32-bit integers, or is one of those widened too late."""
    made: dict[str, tuple[str, list[str]]] = {}
    narrow = []
    for line in ttir.splitlines():
        found = re.match(r"\s*(%[\w#]+)(?::\d+)? = ([\w.]+) (.*)", line)
        if found is None:
            continue
        name, operation, rest = found.groups()
        operands = re.findall(r"%[\w#]+", rest.split(" : ")[0])
        of_int32 = re.search(r" : (?:tensor<[\dx]+xi32>|i32)", rest) is not None
        made[name] = (operation if of_int32 or operation != "arith.muli" else "muli64", operands)
        if operation == "tt.addptr" and _has_product(operands[1], made):
            narrow.append(line.strip())
    return narrow


# What hands an integer on; a sum of products is a product.
_PASSES_ON = ("arith.extsi", "arith.addi", "tt.splat", "tt.expand_dims", "tt.broadcast")


def _has_product(name: str, made: dict[str, tuple[str, list[str]]]) -> bool:
    operation, operands = made.get(name, ("argument", []))
    if operation == "arith.muli":
        # But the number of a tile within its row, a remainder, times the tile's size is a place: it fits.
        return not any(made.get(operand, ("", []))[0] == "arith.remsi" for operand in operands)
    return operation in _PASSES_ON and any(_has_product(operand, made) for operand in operands)


_PASSES_ON_UNIFORM = ("UMOV", "UIADD3", "ULOP3", "ULEA")
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([\w.]+)\s+(.*?);")


def stray_descriptors(sass: str) -> list[str]:
    """The Hopper matrix instructions whose operand in shared memory is described by a parameter of the kernel, or by nothing.

    A descriptor is made from an address in shared memory; CUDA 12.8's assembler took a pointer's register for it where
    operands were swizzled differently. Read in the order of the listing: each uniform register is what was put there last.
    """
    made: dict[int, str] = {}
    stray = []
    for operation, operands in _INSTRUCTION.findall(sass):
        registers = [int(number) for number in re.findall(r"UR(\d+)", operands)]
        if operation.startswith("HGMMA"):
            # Four registers from the named one: the first operand's descriptor, unless it lies in registers, then the second's.
            first = registers[0]
            low_words = [first + 2] if re.match(r"R\d+, R\d+", operands) else [first, first + 2]
            stray += [
                f"{operation} {operands}" for word in low_words if made.get(word, "nothing") in ("parameter", "nothing")
            ]
        elif re.match(r"UR\d", operands):
            # It writes what it names first; what is computed from parameters alone is one.
            origins = {made.get(register, "nothing") for register in registers[1:]}
            if operation.startswith("ULDC"):
                origin = "parameter"
            elif operation.startswith(_PASSES_ON_UNIFORM) and origins:
                origin = "parameter" if origins <= {"parameter", "nothing"} else "computed"
            else:
                origin = "computed"
            for word in range(2 if ".64" in operation else 1):
                made[registers[0] + word] = origin
    return stray


def main() -> int:
    """Compile, print, and write the table unless --quick; the number of kernels that are not fit to ship."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capabilities", nargs="*", type=int, default=list(SHARED), help="80, 90, 100")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    assert os.environ.get("TRITON_INTERPRET", "0") == "0", "switch Triton's interpreter off"
    unfit, rows = 0, []
    for case in cases(arguments.capabilities, arguments.quick):
        resources = measure(case)
        is_fit = resources.shared <= SHARED[case.capability] and not (
            resources.spilled or resources.narrow_offsets or resources.stray_descriptors
        )
        unfit += not is_fit
        rows.append((case, resources))
        print(
            f"{'ok   ' if is_fit else 'UNFIT'} sm_{case.capability} {case.kernel.__name__} {case.variant} "
            f"{case.width} {_NAMES[case.dtype]} {tuple(case.blocks)} {resources}",
            flush=True,
        )
    print(f"{len(rows)} kernels, {unfit} unfit")
    if not arguments.quick:
        (ROOT / "docs" / "kernels.md").write_text(document(rows))
    return unfit


def document(rows: list[tuple[Case, Resources]]) -> str:
    """docs/kernels.md: for every kernel, type and head size the worst over variants and GPUs."""
    worst: dict[tuple, list] = {}
    for case, resources in rows:
        key = (case.kernel.__name__, _NAMES[case.dtype], case.width, case.blocks)
        worst.setdefault(key, []).append((case.capability, resources))
    lines = [_HEADER.format(triton=triton.__version__, n=len(rows), command="python benchmarks/kernel_resources.py")]
    for (kernel, dtype, width, blocks), found in worst.items():
        by_gpu = " / ".join(
            str(max(r.registers for c, r in found if c == capability)) for capability in sorted({c for c, _ in found})
        )
        shared, spilled = max(r.shared for _, r in found), max(r.spilled for _, r in found)
        size = f"{blocks.m} × {blocks.n}" if blocks.n else str(blocks.m)
        lines.append(f"| {kernel} | {dtype} | {width} | {size} | {blocks.warps} | {by_gpu} | {spilled} | {shared:,} |")
    return "\n".join(lines) + "\n"


_HEADER = """# Resources of the Triton kernels

Written by `{command}` with Triton {triton}: {n} compilations for compute capabilities 8.0, 9.0 and 10.0, none of them run.
Each row is the worst over the variants (rounds of intervals, "trax", local attention; causal or not, with and without
dropout) that use the tile: registers of a thread (at most 255) by capability, bytes spilled, bytes of shared memory (of
166,912 / 232,448 / 232,448).

| kernel | type | head size | queries × keys | warps | registers 8.0 / 9.0 / 10.0 | spilled | shared |
|---|---|---|---|---|---|---|---|"""


if __name__ == "__main__":
    sys.exit(1 if main() else 0)

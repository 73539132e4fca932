#!/usr/bin/env bash
# All comparisons on a CPU, one after the other:  benchmarks/cpu.sh OUT_DIR
#
# Rows land in OUT_DIR/*.jsonl; call again to go on where it stopped. An hour or two on two cores: leave the machine alone.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -ne 1 ]; then echo "usage: benchmarks/cpu.sh OUT_DIR" >&2; exit 2; fi
out=$1
reformer=${REFORMER:-.venv/bin/reformer}
mkdir -p "$out"
for preset in short op rounds crossover long 1m figure5; do
    "$reformer" bench attention --preset "$preset" --device cpu --out "$out/attention.jsonl"
done
"$reformer" bench model --preset 6-layers --device cpu --out "$out/model.jsonl"
for preset in 1m enwik8; do
    "$reformer" bench memory --preset "$preset" --device cpu --out "$out/memory.jsonl"
done
"$reformer" bench decode --device cpu --out "$out/decode.jsonl"

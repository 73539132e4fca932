#!/usr/bin/env bash
# The experiments' gpu scale in slices:  benchmarks/gpu_experiments.sh [--dry-run] OUT_DIR [NAME...]
#
# Each call goes on where the last one stopped and ends within LIMIT_SECONDS (570): finished lines are rows in OUT_DIR/results,
# trainings continue from their checkpoints in WORK (runs/gpu). Without names: all experiments that have a gpu scale, in the
# order of the list below. Corpora come from the cache, or, without a network, from carried/: enwik8.xz, photographs.zip, and
# a folder ende of pairs (docs/translation.md).
# --dry-run: the smoke scale, on any machine.
set -uo pipefail
cd "$(dirname "$0")/.."

scale=gpu
if [ "${1:-}" = --dry-run ]; then scale=smoke; shift; fi
if [ $# -lt 1 ]; then echo "usage: benchmarks/gpu_experiments.sh [--dry-run] OUT_DIR [NAME...]" >&2; exit 2; fi
out=$1
shift
names=${*:-figure5-right table1-3 claims baselines patterns context ablate-lsh recall figure4 figure3 table2 figure5-left table4}
limit=${LIMIT_SECONDS:-570}
work=${WORK:-runs/gpu}
cache=${CACHE:-$HOME/.cache/reformer}
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || command -v python3)}
reformer=("$python" -m reformer.cli.main)
mkdir -p "$out/results" "$out/logs"
SECONDS=0

if [ $scale = gpu ]; then
    "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo "error: torch finds no GPU here; --dry-run needs none" >&2; exit 2; }
    mkdir -p "$cache/images" "$cache/pairs"
    if [ -e carried/enwik8.xz ]; then "${reformer[@]}" data enwik8 --file carried/enwik8.xz >"$out/logs/data.log" 2>&1; fi
    if [ -e carried/photographs.zip ]; then cp -n carried/photographs.zip "$cache/images/"; fi
    if [ -d carried/ende ]; then cp -rn carried/ende "$cache/pairs/"; fi
fi

for name in $names; do
    left=$((limit - SECONDS))
    if [ "$left" -lt 10 ]; then echo "$name: no time left; call again"; continue; fi
    # A training that is told to stop saves itself first.
    timeout -s TERM -k 60 "$left" "${reformer[@]}" reproduce "$name" --scale $scale --results "$out/results" --work "$work" \
        --cache-dir "$cache" >"$out/logs/$name.log" 2>&1
    status=$?
    echo "$name: $([ $status = 0 ] && tail -n 1 "$out/logs/$name.log" || echo "ended with $status: $(tail -n 1 "$out/logs/$name.log")")"
done
echo "rows: $out/results (${SECONDS} s)"

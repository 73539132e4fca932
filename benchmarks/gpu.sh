#!/usr/bin/env bash
# Everything that needs a GPU, in one call of under ten minutes:  benchmarks/gpu.sh [--dry-run] OUT_DIR
#
# Correctness first (the kernels' tests, then the check that every benchmark makes itself), then rows. Everything lands under
# OUT_DIR: logs/, rows-CODE.jsonl, report.md with its plots. Each stage has its own limit, and all of them one deadline; call
# again to go on where it stopped (rows already measured with the same code are not measured again).
# Needs no network: both packages are installed without dependencies; what is missing comes from wheels/, if that folder exists.
# The paper's experiments on a GPU: benchmarks/gpu_experiments.sh.
# --dry-run: the same on a CPU with toy sizes, and with Triton's interpreter.
set -uo pipefail
cd "$(dirname "$0")/.."

dry=no
if [ "${1:-}" = --dry-run ]; then dry=yes; shift; fi
if [ $# -ne 1 ]; then echo "usage: benchmarks/gpu.sh [--dry-run] OUT_DIR" >&2; exit 2; fi
out=$1
limit=${LIMIT_SECONDS:-570}
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || command -v python3)}
mkdir -p "$out/logs" "$out/done"
out=$(cd "$out" && pwd)
# Without a checkout there is no commit to tell versions of the code apart; the code itself always does.
code=$(find src reproduction tests csrc -type f \( -name '*.py' -o -name '*.cpp' -o -name '*.h' \) -print0 2>/dev/null | sort -z | xargs -0 cat | sha256sum | cut -c1-12)
rows=$out/rows-$code.jsonl
SECONDS=0

# stage NAME LIMIT COMMAND...: run within the limit and the deadline; 0 if it succeeded, now or in an earlier call.
stage() {
    local name=$1 most=$2 left=$((limit - SECONDS)) began=$SECONDS status
    shift 2
    if [ -e "$out/done/$name-$code" ]; then echo "$name: done before"; return 0; fi
    if [ "$left" -lt 5 ]; then echo "$name: no time left; call again"; return 124; fi
    timeout -k 5 "$((most < left ? most : left))" "$@" >"$out/logs/$name.log" 2>&1
    status=$?
    case $status in
        0) touch "$out/done/$name-$code"; echo "$name: done in $((SECONDS - began)) s" ;;
        124 | 137) echo "$name: stopped at its limit after $((SECONDS - began)) s; call again to go on" ;;
        *) echo "$name: failed with $status: $(tail -n 1 "$out/logs/$name.log")" ;;
    esac
    return "$status"
}

bench() { stage "$1" "$2" "$python" -m reformer.cli.main bench "${@:3}" --device "$device" --out "$rows"; }

install() {
    "$python" -m pip install --no-deps --no-build-isolation -e . -e ./reproduction || return
    [ ! -d wheels ] || "$python" -m pip install --no-index --find-links wheels tyro pytest pytest-timeout hypothesis
}

if [ $dry = yes ]; then
    device=cpu
    export TRITON_INTERPRET=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
else
    device=cuda
    export -f install; export python
    stage install 90 bash -c install || exit 1
    "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo "error: torch finds no GPU here; --dry-run needs none" >&2; exit 2; }
fi
"$python" -m reformer.cli.main env >"$out/environment.json" 2>"$out/logs/environment.log" || echo "environment: see logs/environment.log"

# In parallel where pytest-xdist is there: most of the time is compiling. Other versions of torch warn of other things.
parallel=$("$python" -c 'import xdist' 2>/dev/null && [ $dry = no ] && echo "-n 8")
# shellcheck disable=SC2086
stage tests 150 "$python" -m pytest -p no:cacheprovider -W default $parallel tests/ops -k 'triton and not compile'
case $? in
    0) ;;
    124 | 137) echo "tests: not all were run; each benchmark still checks the ops itself" ;;
    *) grep -E '^(FAILED|ERROR)' "$out/logs/tests.log" | head -n 10; echo "no benchmark while the kernels' tests fail" >&2; exit 1 ;;
esac

if [ $dry = yes ]; then
    bench attention 240 attention --preset toy --contenders reformer reformer-triton sdpa --roofline --no-memory
    bench model 120 model --preset toy --contenders reformer --repeats 1
    bench memory 60 memory --preset toy
else
    bench gpu 130 attention --preset gpu
    bench gpu-float32 45 attention --preset gpu-float32
    bench gpu-local 45 attention --preset gpu-local
    bench gpu-peers 90 attention --preset gpu-peers
    bench gpu-figure5 60 attention --preset figure5 --dtype bfloat16 --n-heads 8 --max-seconds 10
    bench model 60 model --preset 6-layers
    bench memory-1m 45 memory --preset 1m --dtype bfloat16
    bench memory-enwik8 60 memory --preset enwik8 --reversible True --dtype bfloat16
fi

for block in hardware summary crossover findings attention model memory ceilings plots; do
    printf '## %s\n\n<!-- bench:%s -->\n<!-- /bench:%s -->\n\n' "$block" "$block" "$block"
done >"$out/report.md"
touch "$rows"
"$python" -m reformer.cli.main bench report --rows "$rows" --document "$out/report.md" >"$out/logs/report.log" 2>&1 ||
    echo "report: failed: $(tail -n 1 "$out/logs/report.log")"
sed -n '1,/^## findings/p' "$out/report.md" | grep -Ev '^(<!--|## findings|$)'
echo "all of it: $out/report.md (${SECONDS} s)"

#!/usr/bin/env bash
# On a machine with a GPU: builds, tests, checks with compute-sanitizer and times the CUDA kernels, and leaves cuda.json
# and cuda.md in benchmarks/results/ (or the folder given). Needs nvcc, cmake, and a python with pybind11, torch for
# CUDA, numpy, gymnasium, pytest and pytest-timeout, for training also tensorboard, matplotlib and rich; downloads nothing.
# With pytest-xdist tests run side by side.
# usage: [PYTHON=python3] [SITE=folder of a package that is built] [BENCH_SECONDS=0.5] benchmarks/gpu_check.sh [FOLDER]
set -uo pipefail
[ -z "${SITE:-}" ] || SITE=$(cd "$SITE" && pwd) || exit 1
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
results=${1:-benchmarks/results}
build=build/gpu
site=${SITE:-$PWD/$build/site}
checks=$build/checks.txt
failed=0
trap 'kill $(jobs -p) 2>/dev/null' EXIT
trap 'exit 130' INT TERM

say() { echo "$*" | tee -a "$checks"; }

mkdir -p "$build" "$results"
: >"$checks"
if [ -z "${SITE:-}" ]; then
    cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DPPO_FAST_CUDA=ON \
        -DCMAKE_CUDA_ARCHITECTURES="${CUDAARCHS:-native}" \
        -DPython_EXECUTABLE="$(command -v "$python")" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" &&
        cmake --build "$build" --parallel "$(nproc)" &&
        cmake --install "$build" --prefix "$site" || exit 1
    cp -r ppo_fast "$site"/
fi
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} PYTHONSAFEPATH=1  # not the sources, which hold no kernels
case $("$python" -c 'import ppo_fast; print(ppo_fast.__file__)') in
"$site"/*) ;;
*)
    echo "gpu_check: another ppo_fast is installed and in the way, an editable one perhaps; uninstall it" >&2
    exit 1
    ;;
esac
"$python" -m ppo_fast info || exit 1
if ! reason=$("$python" -c 'import ppo_fast; off = ppo_fast.build_info()["cuda_off"]; print(off); raise SystemExit(off != "")'); then
    echo "gpu_check: $reason" >&2
    exit 1
fi

# JAX would take most of the memory when it is imported.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
plugins=(-p no:cacheprovider -p no:benchmark)
"$python" -c 'import xdist' 2>/dev/null && plugins+=(-n 8)
"$python" -m pytest -q "${plugins[@]}" tests/test_*cuda*.py -k "not emulated" >"$build/tests.txt" 2>&1 &
tests=$!

# Beside the tests. Only our kernels: torch's are not ours to check, nor are its calls of the API. Every tensor has memory of its
# own, so that a step beyond it is seen.
tools=(memcheck racecheck initcheck synccheck)
declare -A running
command -v compute-sanitizer >/dev/null || tools=()
for tool in ${tools[@]+"${tools[@]}"}; do
    extra=()
    [ "$tool" = memcheck ] && extra=(--report-api-errors no)
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" ${extra[@]+"${extra[@]}"} --kernel-regex kns=ppo --error-exitcode 1 \
        "$python" tests/cuda/every_kernel.py >"$build/$tool.txt" 2>&1 &
    running[$tool]=$!
done
wait "$tests" || failed=1
tail -30 "$build/tests.txt"
say "Tests on the GPU: $(tail -1 "$build/tests.txt" | tr -d '=')"
for tool in ${tools[@]+"${tools[@]}"}; do
    wait "${running[$tool]}" || failed=1
    say "compute-sanitizer $tool: $(grep -E 'SUMMARY' "$build/$tool.txt" | tail -1 | sed 's/=* *//')"
done
[ ${#tools[@]} -gt 0 ] || say "compute-sanitizer: not found"

"$python" benchmarks/bench_cuda.py "${BENCH_SECONDS:-0.5}" "$checks" "$results/cuda" || failed=1
exit "$failed"

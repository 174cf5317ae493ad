#!/usr/bin/env bash
# The C++ tests under ThreadSanitizer and under AddressSanitizer with UndefinedBehaviorSanitizer, then the
# Python tests of the kernels on a module built with the latter.
# usage: check_sanitizers.sh BIN (the folder with cmake and python)
set -euo pipefail
export PATH=$1:$PATH
here=$(pwd)

cmake --preset tsan -DCMAKE_DISABLE_FIND_PACKAGE_pybind11=ON >/dev/null
cmake --preset asan -DPython_EXECUTABLE="$(command -v python)" \
    -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" >/dev/null
for preset in tsan asan; do
    cmake --build --preset "$preset" --parallel 2
    ctest --preset "$preset"
done

# An environment of its own: in .venv the editable install would be imported instead.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt numpy gymnasium pytest pytest-timeout hypothesis
packages=$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp -r ppo_fast build/asan/_core*.so "$packages"
mv "$packages"/_core*.so "$packages/ppo_fast/"
cp -r csrc/include "$packages/ppo_fast/"
cd "$work"
# Python itself is not built for leak checks; the module must not trip over its own memory.
env ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 \
    LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" \
    venv/bin/python -m pytest -q -c "$here/pyproject.toml" -p no:cacheprovider \
    "$here"/tests/test_advantage{,_dlpack,_errors,_returns,_scan,_tokens}.py \
    "$here"/tests/test_{distributions,envs,envs_cartpole,random,surrogate_numpy}.py

#!/usr/bin/env bash
# The C++ tests under ThreadSanitizer and under AddressSanitizer with UndefinedBehaviorSanitizer, then the
# Python tests of the kernels on an AddressSanitizer build of the module.
# usage: check_sanitizers.sh BIN (the folder with cmake and python)
set -euo pipefail
export PATH=$1:$PATH

for preset in tsan asan; do
    cmake --preset "$preset" -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" \
        -DPython_EXECUTABLE="$(command -v python)" >/dev/null
    cmake --build --preset "$preset" --parallel 2
    ctest --preset "$preset"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r ppo_fast "$work/"
cp build/asan/_core*.so "$work/ppo_fast/"
# Python itself is not built for leak checks; the module must not trip over its own memory.
(cd "$work" && env ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$(g++ -print-file-name=libasan.so)" \
    PYTHONPATH="$work" python -P -m pytest -q -c "$OLDPWD/pyproject.toml" -p no:cacheprovider \
    "$OLDPWD/tests/test_advantage.py" "$OLDPWD/tests/test_distributions.py" \
    "$OLDPWD/tests/test_envs_cartpole.py" "$OLDPWD/tests/test_surrogate_numpy.py")

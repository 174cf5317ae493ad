#!/usr/bin/env bash
# Builds _cuda for all architectures, warnings being errors, and imports it: there need be no GPU. Without nvcc there
# is nothing to do.
# usage: check_cuda.sh BIN (the folder with cmake and python)
set -euo pipefail
export PATH=$1:$PATH

if ! command -v nvcc >/dev/null; then
    echo "no nvcc on this machine: the CUDA kernels are not built"
    exit
fi
cmake --preset release -DPPO_FAST_CUDA=ON -DPPO_FAST_CPP_TESTS=OFF \
    -DPython_EXECUTABLE="$(command -v python)" -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" >/dev/null
cmake --build --preset release --target _cuda --parallel 2
cd build/release
python -c 'import _cuda; print("built with CUDA", _cuda.toolkit, "for", _cuda.architectures, _cuda.devices())'

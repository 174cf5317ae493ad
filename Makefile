# The two commands of the README are `make train` and `make test`. Both make .venv and install what they need
# on the first call and do nothing of the kind on the next; a change of the C++ sources rebuilds them.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
NATIVE := CMakeLists.txt pyproject.toml constraints.txt $(shell find csrc -type f)
CPP := $(shell find csrc tests/cpp tests/cuda -name '*.h' -o -name '*.cpp' -o -name '*.cu')
SEED ?= 1

.PHONY: train test test-slow test-pythons lint format package cuda sanitize bench clean

train: $(VENV)/train.stamp  ## train PPO on CartPole-v1 until solved
	$(BIN)/ppo-fast train CartPole-v1 --seed $(SEED)

test: $(VENV)/test.stamp  ## the tests, but for those that take minutes
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/test.stamp  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/dev.stamp  ## formatting, style, types, stubs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $(CPP)
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --allowlist tests/stubtest_allowlist.txt ppo_fast._core

format: $(VENV)/dev.stamp  ## format all sources
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

bench: $(VENV)/bench.stamp  ## throughput beside the peers, into benchmarks/results
	$(BIN)/python benchmarks/bench_advantage.py
	$(BIN)/python benchmarks/bench_envs.py
	$(BIN)/python benchmarks/bench_surrogate.py
	$(BIN)/python benchmarks/bench_learner.py
	$(BIN)/python benchmarks/bench_train.py

package: $(VENV)/dev.stamp  ## sdist and wheel, each installed and used in an empty environment
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	tests/check_package.sh $(BIN)/python dist/*.whl
	# Without CUDA, whose kernels the wheel has: they take minutes.
	SKBUILD_CMAKE_DEFINE=PPO_FAST_CUDA=OFF tests/check_package.sh $(BIN)/python dist/*.tar.gz

test-pythons: $(VENV)/test.stamp  ## kernels and environments on the other Pythons of this machine
	tests/check_pythons.sh

cuda: $(VENV)/test.stamp  ## the CUDA kernels for all architectures, warnings being errors, where there is an nvcc
	tests/check_cuda.sh $(CURDIR)/$(BIN)

sanitize: $(VENV)/test.stamp  ## C++ tests under ThreadSanitizer and AddressSanitizer
	tests/check_sanitizers.sh $(CURDIR)/$(BIN)

clean:  ## everything that was built or installed
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/%.stamp: $(NATIVE) | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt scikit-build-core pybind11 cmake ninja
	$(PIP) install --quiet --constraint constraints.txt --no-build-isolation \
	    --editable ".[$(EXTRAS_$*)]"
	touch $@

EXTRAS_train := train
EXTRAS_test := train,video,mujoco,test,peers
EXTRAS_dev := train,test,dev
EXTRAS_bench := train,mujoco,bench,peers

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "ppo-fast needs Python 3.11 or newer" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

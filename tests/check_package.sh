#!/usr/bin/env bash
# Installs a wheel or sdist into an empty environment and uses it there, away from the sources.
# usage: check_package.sh PYTHON FILE
set -euo pipefail
python=$1
file=$(realpath "$2")
constraints=$(realpath constraints.txt)
example=$(realpath examples/gridworld.h)
empty=$(mktemp -d)
trap 'rm -rf "$empty"' EXIT

"$python" -m venv "$empty/venv"
"$empty/venv/bin/pip" install --quiet --disable-pip-version-check --constraint "$constraints" "$file"
cd "$empty"
"$empty/venv/bin/ppo-fast" info
PPO_FAST_CACHE="$empty/cache" "$empty/venv/bin/python" - "$example" <<'PYTHON'
import importlib.util
import sys

import numpy as np

import ppo_fast

assert importlib.util.find_spec("torch") is None, "the check is for an environment without torch"
rewards = np.ones((4, 2), np.float32)
never = np.zeros((4, 2), bool)
last = np.zeros(2, np.float32)
factors = {"gamma": 0.5, "gae_lambda": 1.0}
advantages, returns = ppo_fast.gae(
    rewards, np.zeros_like(rewards), **factors, last_values=last, terminated=never
)
assert returns[0, 0] == 1.875, returns
env = ppo_fast.make_vec("CartPole-v1", 3)
env.reset(seed=0)
assert env.step(np.array([0, 1, 0]))[0].shape == (3, 4)
own = ppo_fast.envs.build(sys.argv[1])(2)  # the headers are part of the package
own.reset(seed=0)
assert own.step(np.array([0, 1]))[0].shape == (2, 4)
try:
    ppo_fast.train(ppo_fast.TrainConfig("CartPole-v1"))
except ModuleNotFoundError as error:
    assert 'pip install "ppo-fast[train]"' in str(error), error
else:
    raise AssertionError("training without torch")
PYTHON
status=0
"$empty/venv/bin/ppo-fast" train CartPole-v1 2>"$empty/error" || status=$?
cat "$empty/error"
test "$status" = 1
test "$(wc -l <"$empty/error")" = 1
grep -q 'pip install "ppo-fast\[train\]"' "$empty/error"
echo "$(basename "$file"): works in an empty environment"

"""What the native learner computes depends neither on threads nor on the instruction set."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from test_isa import ISAS, run

import ppo_fast
from ppo_fast import TrainConfig

torch = pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("matplotlib")

from test_training import differences, read_checkpoint, read_csv  # noqa: E402

# Minibatches of several chunks, whose last one is no whole block; some widths no vector divides.
SETTINGS = {
    "num_envs": 130,
    "num_steps": 16,
    "num_epochs": 2,
    "minibatch_size": 700,
    "total_steps": 2080 * 3,
    "eval_episodes": 0,
    "learning_rate": 1e-3,
}
RUNS = {
    "CartPole-v1": {"hidden_sizes": (65, 33), "target_kl": 0.02},
    "Pendulum-v1": {"normalize_obs": True, "activation": "silu", "shared_trunk": True},
    "Acrobot-v1": {"algorithm": "ppo-kl", "activation": "elu", "hidden_sizes": (7,)},
    "MountainCarContinuous-v0": {"continuous": "squashed", "activation": "relu"},
}
# Trains configs; prints `isa` and the instruction set in use, then a line `environment digest` of
# parameters and optimiser for each.
SCRIPT = """
import hashlib, json, sys

import ppo_fast
from ppo_fast.training.checkpoint import load_checkpoint

print("isa", ppo_fast.build_info()["isa"])
for fields in json.loads(sys.argv[1]):
    config = ppo_fast.TrainConfig.from_json(fields)
    learner = load_checkpoint(ppo_fast.train(config).out)["learner"]
    digest = hashlib.sha256()
    for tensors in (learner["model"], learner["optimizer"]["state"][0]):
        for tensor in tensors.values():
            digest.update(tensor.numpy().tobytes())
    print(config.env_id, digest.hexdigest())
"""


def config_of(env_id, out, **changes):
    return TrainConfig(env_id, engine="native", out=out, **(SETTINGS | RUNS[env_id] | changes))


@pytest.mark.parametrize("env_id", RUNS)
def test_threads_do_not_matter(env_id, tmp_path):
    runs = []
    for threads in (1, 2, 3):
        config = config_of(env_id, tmp_path / str(threads), num_threads=threads)
        runs.append(ppo_fast.train(config).out)
    expected = read_checkpoint(runs[0])
    del expected["config"]
    for out in runs[1:]:
        content = read_checkpoint(out)
        del content["config"]
        assert differences(expected, content) == []
        assert read_csv(out) == read_csv(runs[0])


def test_threads_do_not_matter_to_a_policy(tmp_path):
    config = config_of("Pendulum-v1", tmp_path / "run", total_steps=2080)
    ppo_fast.train(config)
    content = torch.load(config.out / "checkpoint.pt", weights_only=True)
    drawn = []
    for threads in (1, 2, 3):
        content["config"]["num_threads"] = threads
        torch.save(content, config.out / "checkpoint.pt")
        policy = ppo_fast.load(config.out)
        rng = np.random.default_rng(0)
        digest = hashlib.sha256()
        for count in (1, 31, 32, 33, 64, 255, 256, 1000, 5000):
            obs = rng.normal(size=(count, 3)).astype(np.float32)
            digest.update(policy.predict(obs).tobytes())
            digest.update(policy.predict(obs, deterministic=False).tobytes())
        drawn.append(digest.hexdigest())
    assert drawn[0] == drawn[1] == drawn[2]


def test_a_row_does_not_depend_on_its_neighbours(tmp_path):
    # One observation gives the same bits alone and anywhere in a batch.
    policy = ppo_fast.train(config_of("Pendulum-v1", tmp_path / "run", total_steps=2080)).policy
    obs = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    together = policy.predict(obs)
    for k in (0, 15, 16, 63, 64, 130, 299):
        np.testing.assert_array_equal(policy.predict(obs[k]), together[k])
    np.testing.assert_array_equal(policy.predict(obs[37:150]), together[37:150])


def digests_on(isa, folder):
    configs = [config_of(env_id, folder / isa / env_id).to_json() for env_id in RUNS]
    done = run(isa, "-c", SCRIPT, json.dumps(configs))
    assert done.returncode == 0, done.stderr
    digests = dict(line.split() for line in done.stdout.splitlines())
    assert digests.pop("isa") == isa
    assert digests.keys() == RUNS.keys()
    return digests


def gradients_on(isa):
    done = run(isa, Path(__file__).with_name("learner_digests.py"))
    assert done.returncode == 0, done.stderr
    digests = dict(line.split() for line in done.stdout.splitlines())
    assert digests.pop("isa") == isa
    return digests


def require_avx512():
    best = ppo_fast.build_info()["best_isa"]
    if best != ISAS[-1]:
        pytest.skip(f"there is nothing to compare: this build or processor has {best} at most")


def test_gradients_are_right_without_fused_multiply_adds():
    assert gradients_on("generic")


def test_avx2_and_avx512_give_the_same_gradients():
    require_avx512()
    avx2, avx512 = map(gradients_on, ISAS[1:])
    assert avx2 == avx512


def test_avx2_and_avx512_give_the_same_bits(tmp_path):
    require_avx512()
    avx2, avx512 = (digests_on(isa, tmp_path) for isa in ISAS[1:])
    assert avx2 == avx512

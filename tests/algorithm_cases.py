"""Small learners, rollouts and schedules that the tests of algorithms share."""

import gymnasium
import numpy as np

from ppo_fast import TrainConfig
from ppo_fast.actions import ActionLayout
from ppo_fast.algorithms import Schedule
from ppo_fast.learners import make_learner
from ppo_fast.observations import ObsLayout
from ppo_fast.rollout import Rollout

OBS_SIZE = 3


def discrete(choices=2):
    """The layout of a Discrete space."""
    return ActionLayout.of("Any-v0", gymnasium.spaces.Discrete(choices))


def box(size=2, *, squashed=False):
    """The layout of a Box of floats within -+1."""
    space = gymnasium.spaces.Box(-1, 1, (size,), np.float32)
    return ActionLayout.of("Any-v0", space, squashed=squashed)


def obs_rows(size=OBS_SIZE):
    """The layout of observations that are rows of so many numbers."""
    return ObsLayout.of("Any-v0", gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32))


def layout_of(space):
    return ActionLayout.of("Any-v0", space)


# Fields of a config, and the layout that goes with them.
POLICIES = {
    "categorical": ({}, discrete(3)),
    "multi-categorical": ({}, layout_of(gymnasium.spaces.MultiDiscrete([3, 2]))),
    "bernoulli": ({}, layout_of(gymnasium.spaces.MultiBinary(2))),
    "gaussian": ({"continuous": "gaussian"}, box()),
    "gaussian of the state": ({"continuous": "gaussian", "state_dependent_std": True}, box()),
    "squashed": ({"continuous": "squashed", "log_std": -0.5}, box(squashed=True)),
    "gsde": ({"continuous": "gsde", "log_std": -1.0}, box()),
}


def make_config(**changes):
    """A config without preset; six environments of five steps, unless `changes` say otherwise."""
    settings = {"num_steps": 5, "num_envs": 6, "hidden_sizes": (8,)} | changes
    samples = settings["num_steps"] * settings["num_envs"]
    return TrainConfig(
        "Any-v0", **({"minibatch_size": min(8, samples), "total_steps": 10 * samples} | settings)
    )


def at(config, number=0):
    """The schedule of update `number` of a run whose rollouts are all of the same size."""
    return Schedule(config, number, 1 - number * config.batch_size / config.rounded_steps)


def make_rollout(config, layout, obs_size=OBS_SIZE):
    return Rollout(config.num_steps, config.num_envs, (obs_size,), layout)


def play(learner, rollout, seed=0):
    """Fill a rollout with noise, but for the actions: these are the learner's own."""
    rng = np.random.default_rng(seed)
    rollout.obs[:] = rng.normal(size=rollout.obs.shape)
    rollout.rewards[:] = rng.normal(size=rollout.rewards.shape)
    rollout.terminated[:] = rng.random(rollout.terminated.shape) < 0.1
    rollout.truncated[:] = rng.random(rollout.truncated.shape) < 0.1
    rollout.final_obs[:] = rng.normal(size=rollout.final_obs.shape)
    for t in range(rollout.num_steps):
        learner.act(rollout.obs[t], rollout.actions[t], rollout.logp[t], step=1000 * seed + t)
    return rollout


def playing(config, layout, seed=0):
    """A learner and a rollout that it has played, its policy kept as the old one."""
    learner = make_learner(config, obs_rows(), layout)
    rollout = play(learner, make_rollout(config, layout), seed)
    learner.keep_old_policy(rollout)
    return learner, rollout


def parameters(learner):
    """Name -> a copy, of all parameters of a torch learner."""
    return {name: p.detach().clone() for name, p in learner.model.named_parameters()}


def changed(before, after):
    """Names of the parameters whose bits differ."""
    assert before.keys() == after.keys()
    return {
        name for name in before if before[name].numpy().tobytes() != after[name].numpy().tobytes()
    }

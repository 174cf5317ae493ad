"""Environments of a few lines, with kinds of actions and observations that Gymnasium's own do not
have.
"""

import gymnasium
import numpy as np
from gymnasium import spaces

LENGTH = 12
NVEC = (3, 2, 4)
START = (0, 5, -1)


class Guess(gymnasium.Env):
    """Episodes of 12 steps; a reward per component of the action that is what was shown."""

    def __init__(self, kind):
        size = len(NVEC)
        self.action_space = {
            "choices": spaces.MultiDiscrete(NVEC, start=START),
            "bits": spaces.MultiBinary(size),
            "pair": spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)]),
        }[kind]
        self._kind = kind
        self.observation_space = spaces.Box(-10, 10, (size,), np.float32)

    def _show(self):
        bits = self.np_random.integers(0, 2, len(NVEC))
        self._wanted = bits if self._kind == "bits" else bits + START
        return (2.0 * bits - 1).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return self._show(), {}

    def step(self, action):
        # What a policy does is always one of the space's own.
        assert self.action_space.contains(action), action
        self._steps += 1
        reward = float((action == self._wanted).mean())
        return self._show(), reward, self._steps == LENGTH, False, {}


class Faulty(gymnasium.Env):
    """Episodes of 12 steps, cut by a limit; one number of them is as `fault` says.

    fault: (what, call, value), of "rewards" or "observations", or an "error" to raise; `call`
    counts the steps of all environments, from 1. None: there is no fault.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Discrete(2)
    fault = None
    calls = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return self._obs(), {}

    def _obs(self):
        return self.np_random.normal(size=3).astype(np.float32)

    def step(self, action):
        self._steps += 1
        Faulty.calls += 1
        obs, reward = self._obs(), float(action)
        what, call, value = Faulty.fault or (None, 0, 0)
        if Faulty.calls == call:
            if what == "error":
                raise value
            if what == "rewards":
                reward = value
            else:
                obs[1] = value
        return obs, reward, False, self._steps == LENGTH, {}


class Parts(gymnasium.Env):
    """Episodes of 12 steps; a reward for the choice that is shown in a Dict, among other things."""

    observation_space = spaces.Dict(
        {
            "wanted": spaces.Discrete(3, start=1),
            "clock": spaces.Tuple([spaces.Box(0, 1, (1,), np.float64), spaces.MultiBinary(2)]),
        }
    )
    action_space = spaces.Discrete(3)

    def _show(self):
        self._wanted = int(self.np_random.integers(3))
        clock = np.array([self._steps / LENGTH]), np.zeros(2, np.int8)
        return {"wanted": np.int64(self._wanted + 1), "clock": clock}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return self._show(), {}

    def step(self, action):
        self._steps += 1
        reward = float(action == self._wanted)
        return self._show(), reward, self._steps == LENGTH, False, {}


class Words(Parts):
    """Whose observations are words."""

    observation_space = spaces.Text(5)


class Endless(gymnasium.Env):
    """No episode ends; a reward of 1 in each step. Takes seeds of 32 bits, as many do."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self._random = np.random.RandomState(seed)
        return self._random.uniform(size=2).astype(np.float32), {}

    def step(self, action):
        return self._random.uniform(size=2).astype(np.float32), 1.0, False, False, {}


class Bars(gymnasium.Env):
    """One step: is the bar, somewhere in a noisy picture, upright (1) or does it lie (0)?"""

    observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._show(), {}

    def _show(self):
        picture = self.np_random.integers(0, 64, (36, 36), np.uint8)
        self._upright = int(self.np_random.integers(2))
        row, column = self.np_random.integers(0, 24, 2)
        height, width = (12, 3) if self._upright else (3, 12)
        picture[row : row + height, column : column + width] = 255
        return picture[:, :, None]

    def step(self, action):
        reward = float(action == self._upright)
        return self._show(), reward, True, False, {}


class Scene(Bars):
    """Bars in a Dict, with some numbers and a choice beside the picture."""

    observation_space = spaces.Dict(
        {
            "camera": Bars.observation_space,
            "rest": spaces.Tuple([spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)]),
        }
    )

    def _show(self):
        picture = super()._show()
        numbers = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return {"camera": picture, "rest": (numbers, self.np_random.integers(3))}


IDS = {kind: f"tiny/{kind}-v0" for kind in ("choices", "bits", "pair")}
PARTS, WORDS, ENDLESS = (f"tiny/{name}-v0" for name in ("parts", "words", "endless"))
FAULTY, BARS, SCENE = (f"tiny/{name}-v0" for name in ("faulty", "bars", "scene"))


def register():
    for kind, env_id in IDS.items():
        gymnasium.register(env_id, Guess, kwargs={"kind": kind})
    for env_id, kind in (
        (PARTS, Parts),
        (WORDS, Words),
        (ENDLESS, Endless),
        (BARS, Bars),
        (SCENE, Scene),
    ):
        gymnasium.register(env_id, kind)
    gymnasium.register(FAULTY, Faulty, disable_env_checker=True)  # it warns of what we report
    Faulty.fault, Faulty.calls = None, 0


def unregister():
    for env_id in (*IDS.values(), PARTS, WORDS, ENDLESS, FAULTY, BARS, SCENE):
        del gymnasium.registry[env_id]

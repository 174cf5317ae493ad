"""Atari games to train on, from what the screen shows: half as large, grey, the last four frames.

From this folder, with `pip install "ppo-fast[train,ale]"`::

    ppo-fast train atari:Atari-v0 --env-kwargs game=Breakout --encoder cnn --shared-trunk \
        --hidden-sizes 512 --activation relu --normalize-rewards --num-steps 128 --clip-range 0.1 \
        --total-steps 10_000_000 --eval-episodes 10

With `--device cuda` networks and updates are on a GPU, and `--vectorization async` steps each game
in a process of its own.
"""

from typing import Any

import ale_py
import gymnasium
import numpy as np
from gymnasium.wrappers import FrameStackObservation, TransformObservation

gymnasium.register_envs(ale_py)


def make(game: str = "Breakout", **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """A game as Gymnasium has it (actions are repeated for four frames), in smaller pictures."""
    env = gymnasium.make(f"ALE/{game}-v5", obs_type="grayscale", **kwargs)
    space = gymnasium.spaces.Box(0, 255, (105, 80), np.uint8)
    return FrameStackObservation(TransformObservation(env, lambda x: x[::2, ::2], space), 4)


gymnasium.register("Atari-v0", entry_point=make)

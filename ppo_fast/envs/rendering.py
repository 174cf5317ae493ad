"""Frames of native environments, drawn by Gymnasium's renderers from our states."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from ppo_fast.envs.specs import NativeSpec

RENDER_MODES = ("rgb_array",)


def require_render_mode(spec: NativeSpec, render_mode: str | None) -> None:
    """Refuse a render mode that a native environment has not."""
    if render_mode is None:
        return
    if spec.original is None:
        raise ValueError(f"make_vec: {spec.env_id} cannot be rendered; render_mode must be None")
    if render_mode not in RENDER_MODES:
        raise ValueError(
            f"make_vec: render_mode must be 'rgb_array' or None, got {render_mode!r}; for others "
            f"use gymnasium.make({spec.env_id!r}, render_mode={render_mode!r})"
        )


class Renderer:
    """Draws states with one instance of the Gymnasium original."""

    def __init__(self, spec: NativeSpec) -> None:
        self._env: Any = gymnasium.make(spec.env_id, render_mode="rgb_array").unwrapped
        assert spec.original is not None  # see require_render_mode
        self._drawn = spec.original.drawn
        self.render_fps: int = self._env.metadata["render_fps"]

    def frame(self, state: Mapping[str, float], params: Mapping[str, Any]) -> NDArray[np.uint8]:
        """One frame [height, width, 3] of a state under these attributes, both by name."""
        for name, value in params.items():
            setattr(self._env, name, value)
        values = dict(state)
        for name in self._drawn:
            setattr(self._env, name, values.pop(name) or None)
        self._env.state = np.array(list(values.values()))
        frame: NDArray[np.uint8] = self._env.render()
        return frame

    def close(self) -> None:
        """Release the drawing surface."""
        self._env.close()

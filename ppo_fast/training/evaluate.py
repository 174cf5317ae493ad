"""Evaluation on Gymnasium's own environment, never on ours.

What a score is worth must not depend on the code that earned it.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from ppo_fast.envs.make import make_original, original_id, reward_threshold
from ppo_fast.envs.specs import is_header
from ppo_fast.training.policy import Policy
from ppo_fast.training.torch_threads import torch_threads

# Environments that play side by side; greedy results do not depend on it.
_PARALLEL = 10
# Steps after which an episode is cut: an environment may have no limit.
LONGEST_EPISODE = 100_000


@dataclass(frozen=True)
class Evaluation:
    """Scores of evaluation episodes.

    Attributes:
        returns: Sum of rewards of each episode [episodes].
        lengths: Steps of each episode [episodes].
        solved: Whether the mean return reaches the environment's reward_threshold; None if it has
            none, or env_kwargs have made another task of it.
        cut: How many episodes had not ended after 100,000 steps, and were left there.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    solved: bool | None
    cut: int = 0

    @property
    def mean_return(self) -> float:
        return float(self.returns.mean())

    @property
    def std_return(self) -> float:
        return float(self.returns.std())


def evaluate(
    policy: Policy,
    *,
    episodes: int,
    seed: int = 0,
    deterministic: bool = True,
    video_folder: Path | None = None,
    stop: threading.Event | None = None,
) -> Evaluation:
    """Play whole episodes of the environment that the policy was trained on.

    Parameters
    ----------
    policy
        Who plays.
    episodes
        How many; episode k starts from a seed made of `seed` and k.
    seed
        Chooses the initial states.
    deterministic
        Take the most probable actions; else draw.
    video_folder
        Write the first episode as an mp4 into this folder.
    stop
        Once it is set, the games end with KeyboardInterrupt.

    Raises
    ------
    ValueError
        If `episodes` is below 1 or a video is asked for of an environment that draws nothing.
    """
    if episodes < 1:
        raise ValueError(f"evaluate: episodes must be at least 1, got {episodes}")
    if video_folder is not None and is_header(policy.config.env_id):
        raise ValueError(f"evaluate: {policy.config.env_id} draws no pictures; leave out the video")
    with torch_threads(policy.config.torch_threads):
        return _play(policy, episodes, seed, deterministic, video_folder, stop)


def _play(
    policy: Policy,
    episodes: int,
    seed: int,
    deterministic: bool,
    video_folder: Path | None,
    stop: threading.Event | None,
) -> Evaluation:
    config = policy.config
    env_id = original_id(config.env_id)
    seeds = np.random.SeedSequence([seed, 0x6576616C]).generate_state(episodes)
    returns = np.zeros(episodes)
    lengths = np.zeros(episodes, np.int64)
    cut = 0
    envs = [
        _make(env_id, config.env_kwargs, video_folder if k == 0 else None)
        for k in range(min(_PARALLEL, episodes))
    ]
    try:
        playing: dict[int, int] = {}  # environment -> episode
        obs: dict[int, Any] = {}
        waiting = iter(range(episodes))
        for k, episode in zip(range(len(envs)), waiting, strict=False):
            playing[k] = episode
            obs[k], _ = envs[k].reset(seed=int(seeds[episode]))
        while playing:
            if stop is not None and stop.is_set():
                raise KeyboardInterrupt("evaluate: told to stop")
            order = list(playing)
            actions = _act(policy, env_id, [obs[k] for k in order], deterministic)
            for k, action in zip(order, actions, strict=True):
                obs[k], reward, terminated, truncated, _ = envs[k].step(action)
                returns[playing[k]] += float(reward)
                lengths[playing[k]] += 1
                if not (terminated or truncated):
                    if lengths[playing[k]] < LONGEST_EPISODE:
                        continue
                    cut += 1
                episode_or_none = next(waiting, None)
                if episode_or_none is None:
                    del playing[k]
                else:
                    playing[k] = episode_or_none
                    obs[k], _ = envs[k].reset(seed=int(seeds[episode_or_none]))
    finally:
        for env in envs:
            env.close()
    threshold = reward_threshold(env_id)
    is_another = threshold is None or bool(config.env_kwargs)
    solved = None if is_another else bool(returns.mean() >= threshold)
    return Evaluation(returns, lengths, solved, cut)


def _act(policy: Policy, env_id: str, obs: list[Any], deterministic: bool) -> NDArray[Any]:
    try:
        rows = np.concatenate([policy.observations.row(each) for each in obs])
        return policy.choose(rows, deterministic=deterministic)
    except ValueError as error:
        raise ValueError(f"{env_id} cannot be played on: {error}") from None


def _make(
    env_id: str, env_kwargs: dict[str, Any], video_folder: Path | None
) -> gymnasium.Env[Any, Any]:
    if video_folder is None:
        return make_original(env_id, **env_kwargs)
    env = make_original(env_id, render_mode="rgb_array", **env_kwargs)
    return gymnasium.wrappers.RecordVideo(
        env,
        str(video_folder),
        episode_trigger=lambda episode: episode == 0,
        name_prefix=f"eval-{len(list(video_folder.glob('*.mp4')))}",
    )

# The native kernels. Arguments are checked here, in C++ (csrc/*/bind.cpp); documentation is at
# the Python functions that call these.
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_fast.info import NativeEnvInfo

def build_info() -> dict[str, Any]: ...
def native_envs() -> dict[str, NativeEnvInfo]: ...
def load_env(path: str) -> NativeEnvInfo: ...
def as_arrays(exchange_api: Any, tensors: tuple[Any, ...]) -> tuple[Any, ...]: ...
def as_tensors(exchange_api: Any, arrays: list[NDArray[Any]]) -> list[Any]: ...
def permutations(seed: int, first: int, count: int, size: int) -> NDArray[np.int64]: ...
def crc32c(data: bytes) -> int: ...
def counter_uniform(seed: int, stream: int, id: int, step: int, index: int = 0) -> float: ...
def gae(
    rewards: Any,
    values: Any,
    gamma: Any,
    gae_lambda: Any,
    last_values: Any,
    next_values: Any,
    terminated: Any,
    truncated: Any,
    final_values: Any,
    on_truncation: Any,
    episode_starts: Any,
    last_done: Any,
    prev_done: Any,
    time_axis: int,
    out: Any,
    exact: bool,
) -> tuple[NDArray[Any], NDArray[Any]]: ...
def lambda_returns(
    rewards: Any,
    values: Any,
    gamma: Any,
    gae_lambda: Any,
    last_values: Any,
    next_values: Any,
    terminated: Any,
    truncated: Any,
    final_values: Any,
    on_truncation: Any,
    episode_starts: Any,
    last_done: Any,
    prev_done: Any,
    time_axis: int,
    out: Any,
    exact: bool,
) -> NDArray[Any]: ...
def discounted_returns(
    rewards: Any,
    gamma: Any,
    last_values: Any,
    terminated: Any,
    truncated: Any,
    final_values: Any,
    on_truncation: Any,
    episode_starts: Any,
    last_done: Any,
    prev_done: Any,
    time_axis: int,
    out: Any,
    exact: bool,
) -> NDArray[Any]: ...
def vtrace(
    rewards: Any,
    values: Any,
    log_rhos: Any,
    gamma: Any,
    gae_lambda: Any,
    rho_clip: Any,
    c_clip: Any,
    pg_rho_clip: Any,
    last_values: Any,
    next_values: Any,
    terminated: Any,
    truncated: Any,
    final_values: Any,
    on_truncation: Any,
    episode_starts: Any,
    last_done: Any,
    prev_done: Any,
    time_axis: int,
    out: Any,
    exact: bool,
) -> tuple[NDArray[Any], NDArray[Any]]: ...
def token_gae(
    rewards: Any,
    values: Any,
    mask: Any,
    gamma: Any,
    gae_lambda: Any,
    masked: Any,
    bootstrap: Any,
    cu_seqlens: Any,
    out: Any,
    exact: bool,
) -> tuple[NDArray[Any], NDArray[Any]]: ...

LOSS_STATS: tuple[str, ...]

class Family(IntEnum):
    categorical = 0
    bernoulli = 1
    gaussian = 2
    squashed_gaussian = 3

# A distribution is a tuple: ppo_fast.distributions.base.Parameters.
def sample(
    dist: tuple[Any, ...],
    noise: tuple[Any, ...] | None,
    seed: int,
    first_id: int,
    step: int,
    deterministic: bool,
    actions: NDArray[Any] | None,
    logp: NDArray[Any] | None,
    entropy: NDArray[Any] | None,
) -> tuple[Any, Any, Any]: ...
def evaluate(dist: tuple[Any, ...], actions: Any) -> tuple[NDArray[Any], NDArray[Any]]: ...
def evaluate_backward(
    dist: tuple[Any, ...], actions: Any, logp_gradient: Any, entropy_gradient: Any
) -> tuple[NDArray[Any], NDArray[Any] | None]: ...
def kl(old: tuple[Any, ...], dist: tuple[Any, ...]) -> NDArray[Any]: ...
def kl_backward(
    old: tuple[Any, ...], dist: tuple[Any, ...], gradient: Any
) -> tuple[NDArray[Any], NDArray[Any] | None]: ...
def normalize(
    x: NDArray[Any], mask: NDArray[Any] | None, eps: float, ddof: int, out: NDArray[Any]
) -> None: ...
def loss(
    function: str,
    form: tuple[int, Any, Any],
    given: tuple[Any, ...],
    settings: tuple[Any, ...],
) -> list[NDArray[Any]]: ...

class Activation(IntEnum):
    tanh = 0
    relu = 1
    elu = 2
    silu = 3

class LogStd(IntEnum):
    none = 0
    parameter = 1
    output = 2
    noise = 3

_Layer = tuple[int, int, int, int]

class Learner:
    def __init__(
        self,
        parts: Sequence[tuple[int, Sequence[_Layer], Sequence[tuple[_Layer, int]]]],
        activation: Activation,
        family: Family,
        dims: int,
        components: int,
        sizes: Sequence[int],
        log_std: LogStd,
        log_std_place: int,
        first_log_std: float,
        sample_freq: int,
    ) -> None: ...
    def link(
        self,
        parameters: NDArray[np.float32],
        gradient: NDArray[np.float32],
        exp_avg: NDArray[np.float32],
        exp_avg_sq: NDArray[np.float32],
    ) -> None: ...
    def act(
        self,
        obs: NDArray[np.float32],
        actions: NDArray[Any],
        logp: NDArray[np.float32],
        seed: int,
        step: int,
        deterministic: bool,
        threads: int,
    ) -> int: ...
    def values(self, obs: NDArray[np.float32], threads: int) -> NDArray[np.float32]: ...
    def policy(
        self, obs: NDArray[np.float32], threads: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]: ...
    # Columns and step are tuples: EpochColumns and EpochStep of ppo_fast.learners.native.
    def epoch(
        self,
        obs: NDArray[np.float32],
        order: NDArray[np.int64],
        columns: tuple[Any, ...],
        settings: tuple[Any, ...],
        step: tuple[Any, ...],
    ) -> tuple[NDArray[np.float64], int, bool, str]: ...
    def collect(
        self,
        env: HeldVectorEnv,
        arrays: tuple[Any, ...],
        seed: int,
        first_step: int,
        bounds: tuple[Any, ...] | None,
        scale: tuple[Any, ...] | None,
        threads: int,
    ) -> tuple[float, int]: ...

class HeldVectorEnv: ...

class VectorEnv(HeldVectorEnv):
    def __init__(
        self,
        name: str,
        num_envs: int,
        num_threads: int | None,
        autoreset: int,
        max_episode_steps: int | None,
        episode_stats: bool,
    ) -> None: ...
    @property
    def num_threads(self) -> int: ...
    def reset(
        self,
        seeds: list[int | None],
        selected: NDArray[np.bool_] | None,
        options: dict[str, Any],
    ) -> NDArray[Any]: ...
    def step(
        self, actions: Any
    ) -> tuple[
        NDArray[Any],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        NDArray[Any] | None,
        tuple[NDArray[np.float64], NDArray[np.int64]] | None,
    ]: ...
    def step_into(
        self,
        actions: Any,
        obs: NDArray[Any],
        rewards: NDArray[Any],
        terminated: NDArray[Any],
        truncated: NDArray[Any],
        final_obs: NDArray[Any] | None,
    ) -> int: ...
    def get_state(self) -> NDArray[np.uint8]: ...
    def set_state(self, state: NDArray[np.uint8]) -> None: ...
    def packed_params(self) -> NDArray[np.uint8]: ...
    def set_param(self, name: str, value: Any, env: int, function: str) -> bool: ...
    def get_param(self, name: str, env: int) -> Any: ...
    def state_of(self, env: int) -> dict[str, Any]: ...
    def get_rng(self, env: int) -> tuple[int, int, int, int, int, int]: ...
    def set_rng(self, env: int, words: list[int]) -> None: ...

"""TrainConfig: everything that a training run depends on, in one documented dataclass."""

import dataclasses
import math
import numbers
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Self

ALGORITHMS = ("ppo-clip",)
ENGINES = ("torch",)
ACTIVATIONS = ("tanh", "relu")
MOST_THREADS = 1024
MOST_SAMPLES = 2**31


@dataclass(frozen=True)
class TrainConfig:
    """A training run. `TrainConfig(...)` applies no preset; `TrainConfig.preset(env_id)` does."""

    env_id: str
    """Environment to train on: a native id such as CartPole-v1, or any Gymnasium id."""

    algorithm: Literal["ppo-clip"] = "ppo-clip"
    """How the policy is improved: ppo-clip is PPO2, with the clipped surrogate."""

    engine: Literal["torch"] = "torch"
    """What computes networks and gradients."""

    seed: int = 0
    """Starts every generator of the run; results depend on nothing else that is random."""

    total_steps: int = 500_000
    """Environment steps of the whole run, over all environments; rounded up to whole rollouts."""

    num_envs: int = 8
    """Environments that are stepped together."""

    num_steps: int = 256
    """Steps of each environment per rollout, T; a rollout has num_envs * num_steps samples."""

    num_epochs: int = 4
    """Passes over a rollout per update."""

    minibatch_size: int = 256
    """Samples per gradient step; a last, smaller minibatch takes what is left."""

    learning_rate: float = 2.5e-4
    """Adam's step size."""

    anneal_lr: bool = True
    """Let the learning rate fall linearly to zero over the run."""

    gamma: float = 0.99
    """Discount per step, in [0, 1]."""

    gae_lambda: float = 0.95
    """Lambda of generalized advantage estimation, in [0, 1]: bias at 0, variance at 1."""

    clip_range: float = 0.2
    """eps of the clipped surrogate: ratios beyond 1 -+ eps gain nothing more."""

    anneal_clip_range: bool = False
    """Let the clip range fall linearly to zero over the run."""

    entropy_coef: float = 0.01
    """Weight of the entropy bonus."""

    value_coef: float = 0.5
    """Weight of the value loss mean((V - R)^2)."""

    max_grad_norm: float | None = 0.5
    """Largest norm of the whole gradient; None for no limit."""

    target_kl: float | None = None
    """Stop the epochs of an update when the KL estimate exceeds 1.5 times this; None for never."""

    normalize_advantages: bool = True
    """Give the advantages of each minibatch mean 0 and standard deviation 1."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers; policy and value function have separate networks."""

    activation: Literal["tanh", "relu"] = "tanh"
    """Function between the layers."""

    device: Literal["cpu"] = "cpu"
    """Where networks and environments live."""

    num_threads: int | None = None
    """Threads that step native environments; None chooses by the work. Never changes results."""

    torch_threads: int = 1
    """Threads of torch's operators; more than one pays for large networks only."""

    target_return: float | None = None
    """Stop early when the mean return of the last 100 episodes reaches this; None for never."""

    eval_episodes: int = 100
    """Greedy episodes on Gymnasium's own environment after training; 0 for none."""

    checkpoint_seconds: float = 60.0
    """Save a checkpoint this often; one is saved at the end and on Ctrl-C in any case."""

    out: Path | None = None
    """New folder for the run; None for runs/<env>-<algorithm>-s<seed>."""

    def __post_init__(self) -> None:
        # JSON has lists and strings for these; frozen, so that a checked config stays checked.
        if isinstance(self.hidden_sizes, list):
            object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        if isinstance(self.out, str):
            object.__setattr__(self, "out", Path(self.out))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            # NumPy's numbers become Python's, which JSON can hold.
            if isinstance(value, numbers.Integral) and not isinstance(value, (bool, int)):
                object.__setattr__(self, field.name, int(value))
            elif isinstance(value, numbers.Real) and not isinstance(value, (int, float)):
                object.__setattr__(self, field.name, float(value))
        self._check()

    @classmethod
    def preset(cls, env_id: str, *, algorithm: str = "ppo-clip", **changes: Any) -> Self:
        """The tuned settings of an environment and algorithm, with some fields changed.

        An environment without settings of its own gets the defaults above.
        """
        from ppo_fast.presets import preset_fields

        fields = preset_fields(env_id, algorithm) | changes
        unknown = fields.keys() - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise TypeError(f"TrainConfig has no field {', '.join(sorted(unknown))}")
        return cls(env_id=env_id, algorithm=algorithm, **fields)  # type: ignore[arg-type]

    @property
    def batch_size(self) -> int:
        """Samples of a rollout."""
        return self.num_envs * self.num_steps

    @property
    def num_updates(self) -> int:
        """Rollouts, each followed by an update, that the run consists of."""
        return math.ceil(self.total_steps / self.batch_size)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types; `from_json` undoes it."""
        fields = dataclasses.asdict(self)
        fields["out"] = None if self.out is None else str(self.out)
        fields["hidden_sizes"] = list(self.hidden_sizes)
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """A config from what `to_json` gave; raises ValueError for anything else."""
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"not the fields of a TrainConfig: {error}") from None

    def _check(self) -> None:
        self._check_type("env_id", str, "a string")
        self._check_choice("algorithm", ALGORITHMS)
        self._check_choice("engine", ENGINES)
        self._check_choice("activation", ACTIVATIONS)
        self._check_choice("device", ("cpu",))
        for name in ("anneal_lr", "anneal_clip_range", "normalize_advantages"):
            self._check_type(name, bool, "True or False")
        for name in ("total_steps", "num_envs", "num_steps", "num_epochs", "minibatch_size"):
            self._check_integer(name, 1)
        self._check_integer("torch_threads", 1)
        self._check_integer("seed", 0)
        if self.seed >= 2**64:
            self._refuse("seed", "must be below 2**64")
        self._check_integer("eval_episodes", 0)
        if self.num_threads is not None:
            self._check_integer("num_threads", 1)
        for name in ("gamma", "gae_lambda"):
            if not 0 <= self._number(name) <= 1:
                self._refuse(name, "must be in [0, 1]")
        for name in ("learning_rate", "clip_range"):
            if not 0 < self._number(name) < math.inf:
                self._refuse(name, "must be positive")
        for name in ("entropy_coef", "value_coef", "checkpoint_seconds"):
            if not 0 <= self._number(name) < math.inf:
                self._refuse(name, "must not be negative")
        for name in ("max_grad_norm", "target_kl"):
            if getattr(self, name) is not None and not 0 < self._number(name) < math.inf:
                self._refuse(name, "must be positive or None")
        if self.target_return is not None and math.isnan(self._number("target_return")):
            self._refuse("target_return", "must be a number or None")
        self._check_type("hidden_sizes", tuple, "a tuple of integers")
        if not all(isinstance(size, int) and size > 0 for size in self.hidden_sizes):
            self._refuse("hidden_sizes", "must be positive integers")
        if self.out is not None:
            self._check_type("out", Path, "a path or None")
        if self.batch_size > MOST_SAMPLES:
            raise ValueError(
                f"TrainConfig: num_envs * num_steps must be at most {MOST_SAMPLES}, "
                f"got {self.batch_size}"
            )
        if self.minibatch_size > self.batch_size:
            raise ValueError(
                f"TrainConfig: minibatch_size ({self.minibatch_size}) must not exceed the samples "
                f"of a rollout, num_envs * num_steps = {self.num_envs} * {self.num_steps} = "
                f"{self.batch_size}"
            )

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            self._refuse(name, f"must be one of {', '.join(choices)}")

    def _check_type(self, name: str, kind: type, description: str) -> None:
        if not isinstance(getattr(self, name), kind):
            self._refuse(name, f"must be {description}", TypeError)

    def _check_integer(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool):
            self._refuse(name, "must be an integer", TypeError)
        if value < least:
            self._refuse(name, f"must be at least {least}")
        if name.endswith("threads") and value > MOST_THREADS:
            self._refuse(name, f"must be at most {MOST_THREADS}")

    def _number(self, name: str) -> float:
        value = getattr(self, name)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            self._refuse(name, "must be a number", TypeError)
        return float(value)

    def _refuse(self, name: str, rule: str, error: type[Exception] = ValueError) -> NoReturn:
        raise error(f"TrainConfig: {name} {rule}, got {getattr(self, name)!r}")

"""train: collect, update, measure, save; and go on after an interruption."""

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from ppo_fast import cuda
from ppo_fast.actions import ActionLayout
from ppo_fast.algorithms import Schedule, make_algorithm
from ppo_fast.config import TrainConfig
from ppo_fast.envs import make_stepper
from ppo_fast.extras import require, require_train
from ppo_fast.learners import make_learner
from ppo_fast.normalizers import RewardScaler
from ppo_fast.observations import ObsLayout
from ppo_fast.rollout import NotFinite, make_rollout
from ppo_fast.training.checkpoint import BEST_NAME, FILE_NAME, load_checkpoint, save_checkpoint
from ppo_fast.training.evaluate import Evaluation, evaluate
from ppo_fast.training.exact_convolutions import exact_convolutions
from ppo_fast.training.metrics import (
    MetricsWriter,
    Row,
    columns,
    make_episode_tracker,
    read_metrics,
)
from ppo_fast.training.output import say, shell_word
from ppo_fast.training.plots import plot_learning_curve
from ppo_fast.training.policy import Policy, policy_of
from ppo_fast.training.progress import make_display
from ppo_fast.training.run_folder import (
    create_run_folder,
    is_finished,
    lasting,
    reopen,
    sole_trainer,
    write_json,
)
from ppo_fast.training.selection import Selection
from ppo_fast.training.signals import stop_on_signal
from ppo_fast.training.torch_threads import torch_threads

_STOPPING = "stopping after what is under way; once more stops at once, and loses what is not saved"
_CONTINUOUS = ("continuous", "log_std", "state_dependent_std", "noise_steps")


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal, such as Ctrl-C, and saved; `out` is its folder."""

    def __init__(self, out: Path, steps: int) -> None:
        super().__init__(
            f"stopped after {steps:,} steps; go on with: ppo-fast train --resume {shell_word(out)}"
        )
        self.out = out
        self.steps = steps


@dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves.

    Attributes:
        config: The settings, `out` filled in.
        policy: The trained policy.
        metrics: Columns of metrics.csv by name, each [updates].
        evaluation: Scores of the greedy episodes after training; None for eval_episodes=0.
        out: The run's folder.
    """

    config: TrainConfig
    policy: Policy
    metrics: dict[str, NDArray[np.float64]]
    evaluation: Evaluation | None
    out: Path


def train(
    config: TrainConfig | None = None,
    *,
    resume: str | os.PathLike[str] | None = None,
    engine: Literal["auto", "native", "torch"] | None = None,
    device: str | None = None,
    total_steps: int | None = None,
    progress: bool = False,
    on_update: Callable[[Row], object] | None = None,
) -> TrainResult:
    """Run a training, or go on with one that was stopped or shall be longer.

    Parameters
    ----------
    config
        Settings of a new run.
    resume
        Folder of a stopped run to go on with, instead of `config`.
    engine
        With `resume`: the engine to go on with, None for the one of the run's settings. Both hold
        the same network and optimiser; their rounding differs.
    device
        With `resume`: the device to go on with, likewise.
    total_steps
        With `resume`: how many steps the run shall have in all, None for as many as before. What
        is annealed goes on as if it had been so from the start; a run that has met its
        `target_return` goes on without one.
    progress
        Show a progress bar (plain lines where standard output is no terminal).
    on_update
        Called after every update with its row of metrics.csv. False from it ends the run, which is
        then finished as any other. What it raises ends the run, too, after saving if it is no
        KeyboardInterrupt.

    Returns
    -------
    TrainResult

    Raises
    ------
    ValueError
        For an unknown environment, spaces that are not supported, what the engine or the device
        cannot train, a damaged checkpoint or a run that has finished.
    FileExistsError
        If `config.out` exists.
    RuntimeError
        If training diverges or the environment gives numbers that are not finite, after saving;
        before anything is written, if there is no such device.
    BlockingIOError
        If another process trains in the folder.
    Exception
        Whatever an environment raises, after saving, with a note of where.
    Interrupted
        On Ctrl-C, SIGTERM or the end of the terminal, after saving; a second one stops at once,
        without saving. A plain KeyboardInterrupt if the run came to its end all the same.
    """
    if (config is None) == (resume is None):
        raise TypeError("train: give either a config or resume=<folder>")
    if config is not None and not isinstance(config, TrainConfig):
        raise TypeError(
            f"train: config must be a TrainConfig, got {config!r}; "
            "TrainConfig.preset('CartPole-v1') makes one"
        )
    given = {"engine": engine, "device": device, "total_steps": total_steps}
    changes = {name: value for name, value in given.items() if value is not None}
    if resume is None:
        for name in changes:
            raise TypeError(f"train: {name} belongs to resume; a new run has config.{name}")
    require_train()
    folder = None if resume is None else Path(resume)
    with ExitStack() as stack:
        content = None
        if folder is not None:
            if folder.is_dir():
                stack.enter_context(sole_trainer(folder))
            content = load_checkpoint(folder)
            saved = TrainConfig.from_json(content["config"])
            config = replace(saved, out=folder, **changes)  # type: ignore[arg-type]
            if total_steps is not None:
                config = _prolonged(config, content["steps"], content["solved_early"])
        assert config is not None
        # Around the construction as well: the bits of the initial network depend on the threads.
        stack.enter_context(torch_threads(config.torch_threads))
        if content is None:
            run = _Run.started(config)
            stack.enter_context(sole_trainer(run.out))
        else:
            run = _Run.resumed(config, content, is_longer=total_steps is not None)
        if cuda.is_named(config.device):
            stack.enter_context(exact_convolutions())
        try:
            with stop_on_signal(_STOPPING if progress else None) as stop:
                run.train(progress, on_update, stop)
                result = run.finish(progress, stop)
                if stop.is_set():  # too late for this run; what else the program has in mind ends
                    raise KeyboardInterrupt(f"told to stop when the run was finished: {run.out}")
                return result
        finally:
            run.metrics.close()


def _prolonged(config: TrainConfig, steps: int, solved_early: bool) -> TrainConfig:
    """The settings of a run that has so many steps, and shall have `total_steps`."""
    if config.total_steps <= steps:
        raise ValueError(
            f"train: total_steps must be more than the {steps:,} steps that {config.out} has, "
            f"got {config.total_steps}"
        )
    return replace(config, target_return=None) if solved_early else config


class _Run:
    """The state of a run, and its loop."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.stepper = make_stepper(
            config.env_id,
            config.num_envs,
            num_threads=config.num_threads,
            vectorization=config.vectorization,
            device=config.device,
            **config.env_kwargs,
        )
        self.observations = ObsLayout.of(config.env_id, self.stepper.single_observation_space)
        obs_size = self.observations.size
        self.layout = ActionLayout.of(
            config.env_id,
            self.stepper.single_action_space,
            squashed=config.continuous == "squashed",
        )
        if self.layout.kind != "continuous":
            self.refuse_continuous()
        self.learner = make_learner(config, self.observations, self.layout)
        self.algorithm = make_algorithm(config)
        place = cuda.place_of(config.device)
        self.rollout = make_rollout(
            config.num_steps, config.num_envs, (obs_size,), self.layout, place
        )
        self.episodes = make_episode_tracker(config.num_envs, place)
        self.rewards = (
            RewardScaler(config.num_envs, config.gamma, place) if config.normalize_rewards else None
        )
        self.selection = Selection(config)
        self.updates = 0
        self.steps = 0  # samples that were learned from
        self.draws = 0  # steps of each environment
        self.draws_before = 0
        self.seconds = 0.0
        self.solved_early = False
        self.told_to_end = False  # by on_update
        self.notes: list[str] = []  # what the user should know before it starts
        if config.encoder is None and self.observations.shows_pictures():
            self.notes.append(
                f"{config.env_id} shows pictures; fully connected layers see each as a row of "
                f"{obs_size:,} numbers: give it an encoder: cnn for a picture of 36 x 36 or "
                "more, or one of your own"
            )
        self.metrics: MetricsWriter

    def refuse_continuous(self) -> None:
        """Refuse options of distributions that these actions do not have."""
        for name in _CONTINUOUS:
            value = getattr(self.config, name)
            if value != getattr(TrainConfig, name):
                raise ValueError(
                    f"{name} is an option for continuous actions, got {value!r}; "
                    f"{self.config.env_id} has {self.layout.space}"
                )

    @classmethod
    def started(cls, config: TrainConfig) -> "_Run":
        """A new run in a new folder."""
        config = lasting(config)
        run = cls(config)  # before the folder is made: a wrong setting leaves nothing behind
        folder = create_run_folder(config)
        run.config = replace(config, out=folder)
        run.metrics = MetricsWriter(folder, [])
        run.save()  # so that a run can be resumed from its first moment on
        return run

    @classmethod
    def resumed(cls, config: TrainConfig, content: dict[str, Any], *, is_longer: bool) -> "_Run":
        """A run as its checkpoint has it; longer, by what the settings say now."""
        folder = config.out
        assert folder is not None
        run = cls(config)
        run.updates = content["updates"]
        run.steps = content["steps"]
        run.draws = content["draws"]
        run.seconds = content["seconds"]
        if not is_longer:
            run.solved_early, run.told_to_end = content["solved_early"], content["told_to_end"]
        if run.is_over and is_finished(folder):
            raise ValueError(
                f"{folder} has finished its {run.steps:,} steps; to go on, give it more total_steps"
            )
        run.learner.load_state(content["learner"])
        run.algorithm.load_state(content["algorithm"])
        if run.rewards is not None:
            run.rewards.load_state(content["rewards"])
        run.episodes.load_state(content["episodes"])
        run.selection.load_state(content["selection"])
        run.rollout.start(content["obs"])
        run.resume_envs(content["env_state"])
        run.metrics = MetricsWriter(folder, read_metrics(folder, run.updates))
        if is_longer:
            reopen(folder)
            run.save()
        write_json(folder / "config.json", config.to_json())  # the engine may be another one
        return run

    @property
    def out(self) -> Path:
        assert self.config.out is not None
        return self.config.out

    @property
    def is_over(self) -> bool:
        ended_early = self.solved_early or self.told_to_end
        return ended_early or self.steps >= self.config.total_steps

    def reset_envs(self) -> None:
        """Start all episodes, from seeds of (seed, updates so far)."""
        sequence = np.random.SeedSequence([self.config.seed, self.updates])
        # Of 32 bits, as many environments take no more.
        seeds = sequence.generate_state(self.config.num_envs).tolist()
        obs, _ = self.stepper.reset(seed=seeds)
        self.rollout.start(obs)
        self.episodes.restart()
        if self.rewards is not None:
            self.rewards.restart()

    def resume_envs(self, state: Any) -> None:
        """Go on in the middle of the episodes, or else from a reset, and note that."""
        if self.updates == 0:
            return
        try:
            if state is not None:
                self.stepper.set_state(state.numpy())
                return
            why = "was not saved"
        except ValueError as error:
            why = f"cannot be restored ({error})"
        self.reset_envs()
        self.notes.append(f"the state of {self.config.env_id} {why}: its episodes start anew")

    def train(
        self, progress: bool, on_update: Callable[[Row], object] | None, stop: threading.Event
    ) -> None:
        """Updates until the run is over; raises Interrupted on a signal."""
        for note in self.notes:
            if progress:
                say(note)
            else:
                warnings.warn(note, stacklevel=3)
        if progress and self.learner.why_torch is not None:
            say(f"trains on torch, not on the native engine: {self.learner.why_torch}")
        display = make_display(self.config, progress)
        before = self.seconds
        start = time.perf_counter()
        saved = start
        try:
            if self.updates == 0:
                with self.noting("reset"):
                    self.reset_envs()
                self.stepper.get_state()  # tells now what else would be wrong at the first save
            while not self.is_over:
                try:
                    row = self.iterate()
                except (EOFError, ConnectionError):
                    if not stop.is_set():
                        raise
                    # The processes of environments were told to end, too.
                    self.plot()
                    raise Interrupted(self.out, self.steps) from None
                now = time.perf_counter()
                self.seconds = before + now - start
                row["seconds"] = self.seconds
                row["steps_per_second"] = self.steps / self.seconds
                if self.selection.is_wanted:
                    row["eval_return"] = self.select()
                    start += time.perf_counter() - now  # no time of training
                self.metrics.add(row)
                display.update(row)
                if on_update is not None:
                    try:
                        self.told_to_end = on_update(row) is False
                    except (Exception, SystemExit):
                        self.save()
                        raise
                if stop.is_set() and not self.is_over:
                    self.save()
                    self.plot()
                    raise Interrupted(self.out, self.steps)
                if now - saved > self.config.checkpoint_seconds:
                    self.save()
                    saved = time.perf_counter()
        finally:
            display.close()
            self.learner.close()
            self.stepper.close()

    def iterate(self) -> Row:
        """One rollout and one update; returns the metrics, but for the time of the run."""
        config = self.config
        start = time.perf_counter()
        self.collect()
        collected = time.perf_counter()
        stats = self.update()
        self.episodes.settle()
        self.learner.observe(self.rollout)
        self.updates += 1
        self.steps += self.rollout.num_samples
        mean_return = self.episodes.mean_return
        self.solved_early = (
            config.target_return is not None
            and self.episodes.is_full
            and mean_return >= config.target_return
        )
        return {
            "update": self.updates,
            "steps": self.steps,
            "episodes": self.episodes.count,
            "mean_return": mean_return,
            "mean_length": self.episodes.mean_length,
            "return_sum": self.episodes.return_sum,
            **stats,
            **self.rollout.times(collected - start, time.perf_counter() - start),
        }

    def select(self) -> float:
        """The greedy score of the policy, if it is its turn, else NaN; keeps the best policy."""
        if not self.selection.is_due(self.updates, is_last=self.is_over):
            return float("nan")
        score, is_best = self.selection.judge(self.policy())
        if is_best:
            self.save(BEST_NAME)
        return score

    def policy(self) -> Policy:
        """A copy of the policy as it is."""
        return policy_of(self.config, self.learner.state(), self.observations, self.layout)

    def collect(self) -> None:
        """The next rollout, its episodes counted and its rewards scaled."""
        rollout = self.rollout
        self.keep()
        try:
            with self.noting("play"):
                self.play()
        except FloatingPointError as error:
            self.check_rollout()  # an observation may be to blame
            self.fail_diverged(error)
        if not rollout.known_later:
            self.check_rollout()
        self.draws += rollout.num_steps
        self.episodes.add(rollout)
        if self.rewards is not None:
            done = rollout.terminated | rollout.truncated
            self.rewards.scale(rollout.rewards, done, rollout.valid)

    def play(self) -> None:
        """Fill the rollout."""
        if self.algorithm.whole_episodes:
            self.reset_envs()
            self.rollout.collect_episodes(self.stepper, self.learner, first_step=self.draws)
        else:
            self.rollout.collect(self.stepper, self.learner, first_step=self.draws)

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Save the run before an error of an environment ends it, and note where it was."""
        try:
            yield
        except FloatingPointError:  # of the policy
            raise
        except Exception as error:
            if self.updates > 0:
                self.save_before_rollout()
            error.add_note(
                f"{self.config.env_id} could not {what} after {self.updates} updates and "
                f"{self.steps:,} steps; the policy before that is saved in {self.out}"
            )
            raise

    def update(self) -> dict[str, float]:
        """Learn from the rollout; returns the metrics of that."""
        learner, rollout = self.learner, self.rollout
        learner.keep_old_policy(rollout)
        before = self.algorithm.state()
        # A rollout of reinforce may take the run beyond its end.
        remaining = max(0.0, 1 - self.steps / self.config.rounded_steps)
        now = Schedule(self.config, self.updates, remaining)
        stats: dict[str, float] = {}
        diverged: FloatingPointError | None = None
        try:
            stats = self.algorithm.update(learner, rollout, now)
        except FloatingPointError as error:
            diverged = error
        found = rollout.find_not_finite() if rollout.known_later else None
        if found is not None or diverged is not None:
            learner.undo()
            self.algorithm.load_state(before)
        if found is not None:
            self.fail_not_finite(found)
        if diverged is not None:
            self.fail_diverged(diverged)
        return stats

    def check_rollout(self) -> None:
        """End the run if the environments gave something that is not finite."""
        found = self.rollout.find_not_finite()
        if found is not None:
            self.fail_not_finite(found)

    def fail_not_finite(self, found: NotFinite) -> NoReturn:
        self.fail(
            f"{self.config.env_id} gave {found.name} that are not finite: {found.value} from "
            f"environment {found.env} at step {self.steps + found.samples:,} of the run"
        )

    def fail_diverged(self, error: FloatingPointError) -> NoReturn:
        self.fail(
            f"training diverged after {self.updates} updates and {self.steps:,} steps ({error}); "
            "lower learning_rate"
        )

    def keep(self) -> None:
        """Remember what a rollout changes, for `fail`."""
        self.draws_before = self.draws
        self.episodes.keep()
        if self.rewards is not None:
            self.rewards.keep()

    def fail(self, words: str) -> NoReturn:
        """Save the run as it was after its last update, and raise RuntimeError."""
        self.save_before_rollout()
        raise RuntimeError(f"{words}; the policy before that is saved in {self.out}") from None

    def save_before_rollout(self) -> None:
        """Be as after the last update, but for the environments, and save that."""
        self.draws = self.draws_before
        self.episodes.undo()
        if self.rewards is not None:
            self.rewards.undo()
        # The environments may be in the middle of a rollout, or be what is broken.
        self.save(with_envs=False)

    def save(self, name: str = FILE_NAME, *, with_envs: bool = True) -> None:
        """Write a checkpoint, after the metrics that lead up to it."""
        torch = require("torch")
        self.metrics.flush()
        # Before the first update there are no episodes yet.
        env_state = self.stepper.get_state() if with_envs and self.updates > 0 else None
        save_checkpoint(
            self.out,
            {
                "config": self.config.to_json(),
                "observations": self.observations.to_json(),
                "actions": self.layout.to_json(),
                "updates": self.updates,
                "steps": self.steps,
                "draws": self.draws,
                "seconds": self.seconds,
                "solved_early": self.solved_early,
                "told_to_end": self.told_to_end,
                "learner": self.learner.state(),
                "algorithm": self.algorithm.state(),
                "rewards": None if self.rewards is None else self.rewards.state(),
                "episodes": self.episodes.state(),
                "obs": torch.as_tensor(self.rollout.opening).cpu(),
                "env_state": None if env_state is None else torch.tensor(env_state),
                "selection": self.selection.state(),
            },
            name,
        )

    def finish(self, progress: bool, stop: threading.Event) -> TrainResult:
        """Save, plot, evaluate on Gymnasium's environment, summarize."""
        self.save()
        self.metrics.close()
        try:
            return self.judge(progress, stop)
        except KeyboardInterrupt:  # whoever goes on gets what is missing
            raise Interrupted(self.out, self.steps) from None

    def judge(self, progress: bool, stop: threading.Event) -> TrainResult:
        """What the run has come to, in numbers and as a picture."""
        if stop.is_set():
            raise KeyboardInterrupt
        rows = self.metrics.rows
        self.plot()
        policy = self.policy()
        evaluation = None
        episodes = self.config.eval_episodes
        if episodes > 0:
            if progress:
                say(f"evaluating {episodes} greedy episodes ...")
            evaluation = evaluate(policy, episodes=episodes, seed=self.config.seed, stop=stop)
        write_json(self.out / "summary.json", self.summary(evaluation))
        return TrainResult(self.config, policy, columns(rows), evaluation, self.out)

    def plot(self) -> None:
        """Draw the learning curve so far."""
        plot_learning_curve(self.out / "learning_curve.png", self.config, self.metrics.rows)

    def summary(self, evaluation: Evaluation | None) -> dict[str, Any]:
        """The content of summary.json."""
        return {
            "env_id": self.config.env_id,
            "algorithm": self.config.algorithm,
            "engine": self.learner.engine,
            "seed": self.config.seed,
            "total_steps": self.steps,
            "wall_seconds": self.seconds,
            "steps_per_second": self.steps / self.seconds,
            "eval_mean_return": None if evaluation is None else evaluation.mean_return,
            "eval_std_return": None if evaluation is None else evaluation.std_return,
            "eval_episodes": 0 if evaluation is None else len(evaluation.returns),
            "eval_cut": 0 if evaluation is None else evaluation.cut,
            "eval_best_return": self.selection.best_return if self.selection.is_wanted else None,
            "solved": None if evaluation is None else evaluation.solved,
        }

"""Selection: evaluations while a run goes on, and which of its policies was the best."""

import math
from typing import Any

from ppo_fast.config import TrainConfig
from ppo_fast.training.evaluate import evaluate
from ppo_fast.training.policy import Policy


class Selection:
    """Greedy scores every few updates, and the best of them.

    All policies of a run play from the same initial states, which are not those of its last
    evaluation: the best of many scores is too good, and has to be measured again.

    Attributes:
        best_return: The best mean return so far; -infinity before the first.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._every = config.eval_every
        self._episodes = config.eval_episodes
        self._seed = (config.seed + 1) % 2**64
        self.best_return = -math.inf

    @property
    def is_wanted(self) -> bool:
        """Whether the run is to be evaluated before its end."""
        return self._every is not None

    def is_due(self, update: int, *, is_last: bool) -> bool:
        """Whether it is to be evaluated after this update."""
        return self._every is not None and (is_last or update % self._every == 0)

    def judge(self, policy: Policy) -> tuple[float, bool]:
        """The mean return of a policy, and whether none was better before."""
        score = evaluate(policy, episodes=self._episodes, seed=self._seed).mean_return
        is_best = score > self.best_return
        if is_best:
            self.best_return = score
        return score, is_best

    def state(self) -> dict[str, Any]:
        return {"best_return": self.best_return}

    def load_state(self, state: dict[str, Any]) -> None:
        self.best_return = state["best_return"]

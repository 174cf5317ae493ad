"""Training runs: train, checkpoint, evaluate, load."""

from ppo_fast.training.evaluate import Evaluation, evaluate
from ppo_fast.training.policy import Policy, load
from ppo_fast.training.trainer import Interrupted, TrainResult, train

__all__ = ["Evaluation", "Interrupted", "Policy", "TrainResult", "evaluate", "load", "train"]

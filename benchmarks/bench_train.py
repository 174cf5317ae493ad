"""Training throughput with rl-zoo's CartPole hyperparameters: ours and stable-baselines3's.

Run: python benchmarks/bench_train.py
"""

import argparse
import time

from ppo_fast.bench.train import TOTAL_STEPS, TrainedRun, Trainer, bench_train


def sb3_trainer() -> dict[str, Trainer]:
    """stable-baselines3's PPO; nothing if it is not installed."""
    try:
        from stable_baselines3 import PPO
        from stable_baselines3.common.env_util import make_vec_env
        from stable_baselines3.common.evaluation import evaluate_policy
    except ImportError:
        print("stable-baselines3 is not installed and left out")
        return {}
    import torch

    def train(seed: int, torch_threads: int) -> TrainedRun:
        before = torch.get_num_threads()
        torch.set_num_threads(torch_threads)
        model = PPO(
            "MlpPolicy",
            make_vec_env("CartPole-v1", n_envs=8, seed=seed),
            n_steps=32,
            batch_size=256,
            n_epochs=20,
            gamma=0.98,
            gae_lambda=0.8,
            ent_coef=0.0,
            learning_rate=lambda left: left * 1e-3,
            clip_range=lambda left: left * 0.2,
            seed=seed,
            device="cpu",
        )
        start = time.perf_counter()
        model.learn(TOTAL_STEPS)
        seconds = time.perf_counter() - start
        env = make_vec_env("CartPole-v1", n_envs=10, seed=1000)
        mean, _ = evaluate_policy(model, env, n_eval_episodes=100, deterministic=True)
        torch.set_num_threads(before)
        return TrainedRun(model.num_timesteps / seconds, float(mean))

    return {"stable-baselines3": train}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="seeds to run")
    options = parser.parse_args()
    bench_train(rounds=options.rounds, peers=sb3_trainer())

"""Schedule: what falls linearly over a run, and what stays."""

import pytest
from algorithm_cases import at, make_config

from ppo_fast.algorithms import Schedule

NAMES = ("learning_rate", "entropy_coef", "clip_range", "clip_range_high")
START = {"learning_rate": 0.5, "entropy_coef": 0.25, "clip_range": 0.125, "clip_range_high": 2.0}
SWITCH = {
    "learning_rate": "anneal_lr",
    "entropy_coef": "anneal_entropy_coef",
    "clip_range": "anneal_clip_range",
    "clip_range_high": "anneal_clip_range",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("remaining", [1.0, 0.75, 0.5, 0.0625])
def test_each_falls_by_its_own_switch(name, remaining):
    switches = dict.fromkeys(SWITCH.values(), False)
    still = Schedule(make_config(**START, **switches), 0, remaining)
    falling = Schedule(make_config(**START, **(switches | {SWITCH[name]: True})), 0, remaining)
    for other in NAMES:
        assert getattr(still, other) == START[other]
        falls = SWITCH[other] == SWITCH[name]
        assert getattr(falling, other) == START[other] * (remaining if falls else 1)


def test_no_upper_bound_of_its_own():
    config = make_config(anneal_clip_range=True)
    assert Schedule(config, 0, 0.5).clip_range_high is None


def test_defaults():
    now = Schedule(make_config(learning_rate=0.5, entropy_coef=0.25), 3, 0.5)
    assert (now.learning_rate, now.entropy_coef, now.clip_range) == (0.25, 0.25, 0.2)


def test_ten_updates():
    config = make_config(learning_rate=1.0)
    rates = [at(config, number).learning_rate for number in range(10)]
    assert rates == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])

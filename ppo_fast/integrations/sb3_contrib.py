"""Rollout buffers for sb3-contrib: its own, with the advantages computed by `ppo_fast.gae`.

MaskablePPO takes a class,

    MaskablePPO("MlpPolicy", env, rollout_buffer_class=FastMaskableRolloutBuffer)

and TRPO takes those of sb3.py. RecurrentPPO takes none: use `ppo_fast.integrations.patch("sb3")`.
"""

# mypy: disallow_subclassing_any=False
# (without sb3-contrib its classes are Any to mypy)

from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer
from sb3_contrib.common.recurrent.buffers import RecurrentDictRolloutBuffer, RecurrentRolloutBuffer

from ppo_fast.integrations.sb3 import FastAdvantages

HOW = 'patch("sb3") covers its buffers too'


class FastMaskableRolloutBuffer(FastAdvantages, MaskableRolloutBuffer):
    """`rollout_buffer_class` of MaskablePPO."""


class FastMaskableDictRolloutBuffer(FastAdvantages, MaskableDictRolloutBuffer):
    """`rollout_buffer_class` of MaskablePPO for dictionary observations."""


class FastRecurrentRolloutBuffer(FastAdvantages, RecurrentRolloutBuffer):
    """For subclasses of RecurrentPPO that make their own buffer."""


class FastRecurrentDictRolloutBuffer(FastAdvantages, RecurrentDictRolloutBuffer):
    """For subclasses of RecurrentPPO that make their own buffer of dictionary observations."""

"""Vectorised environments: native ones in C++, and any Gymnasium environment behind the same calls.

Importing this module registers the native environments with Gymnasium as `ppo_fast/<id>`.
"""

from ppo_fast.envs.building import BuildError, EnvMaker, build, load
from ppo_fast.envs.make import make_stepper, make_vec, require_known
from ppo_fast.envs.native import NativeVectorEnv
from ppo_fast.envs.single import NativeEnv
from ppo_fast.envs.specs import NATIVE_SPECS, NativeSpec, register
from ppo_fast.envs.stepping import Stepper

__all__ = [
    "NATIVE_SPECS",
    "BuildError",
    "EnvMaker",
    "NativeEnv",
    "NativeSpec",
    "NativeVectorEnv",
    "Stepper",
    "build",
    "load",
    "make_stepper",
    "make_vec",
    "require_known",
]

register()

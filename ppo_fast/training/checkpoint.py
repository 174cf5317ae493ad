"""Checkpoints: one file from which a run goes on, or a policy is loaded.

A checkpoint is a torch file of tensors, numbers and strings. It is read with weights_only, so
opening a foreign file never runs code.
"""

import math
import os
import zipfile
from pathlib import Path
from typing import Any

from ppo_fast.extras import require

FILE_NAME = "checkpoint.pt"
BEST_NAME = "best.pt"  # of the policy that was evaluated best
FORMAT = "ppo-fast checkpoint"
VERSION = 2
OLDER = (1,)
KEYS = frozenset(
    {
        "config",
        "observations",
        "actions",
        "updates",
        "steps",
        "draws",
        "seconds",
        "solved_early",
        "told_to_end",
        "learner",
        "algorithm",
        "rewards",
        "episodes",
        "obs",
        "env_state",
        "selection",
    }
)


def save_checkpoint(folder: Path, content: dict[str, Any], name: str = FILE_NAME) -> None:
    """Write `content` into a run's folder, so that a crash leaves the old checkpoint or the new.

    Raises
    ------
    OSError
        If it cannot be written; the old one stays.
    """
    path = folder / name
    temporary = path.with_suffix(".tmp")
    torch = require("torch")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, "version": VERSION, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch has words of its own for a full disk
        temporary.unlink(missing_ok=True)
        raise OSError(
            f"{path} cannot be written (is the disk full?): {error}; the last checkpoint is whole"
        ) from error


def load_checkpoint(folder: str | os.PathLike[str], name: str = FILE_NAME) -> dict[str, Any]:
    """Read a checkpoint of a run's folder.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is truncated, damaged, not ours or of a newer version.
    """
    path = Path(folder) / name
    if not path.is_file():
        mend = "give the folder of a training run"
        if name == BEST_NAME and (Path(folder) / FILE_NAME).is_file():
            mend = "it is kept by a run with eval_every"
        raise FileNotFoundError(f"{folder} holds no {name}; {mend}")
    torch = require("torch")
    try:
        # torch does not look at the checksums of the zip file that a checkpoint is.
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip() is not None
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # what a damaged file raises has no common type
        damaged = True
    if damaged:
        raise ValueError(
            f"{path} cannot be read: it is truncated, damaged or no ppo-fast checkpoint"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is no ppo-fast checkpoint")
    if content.get("version") not in (*OLDER, VERSION):
        raise ValueError(
            f"{path} is a checkpoint of version {content.get('version')}; this is version {VERSION}"
        )
    _bring_up_to_date(content)
    missing = KEYS - content.keys()
    if missing:
        raise ValueError(f"{path} is no ppo-fast checkpoint: it lacks {', '.join(sorted(missing))}")
    return content


def _bring_up_to_date(content: dict[str, Any]) -> None:
    """What checkpoints of version 1, and the first of version 2, had otherwise."""
    content.setdefault("told_to_end", False)
    content.setdefault("selection", {"best_return": -math.inf})
    if "obs_size" in content:  # all observations were boxes
        shape = content.get("obs_shape", [content["obs_size"]])
        box = {"low": -math.inf, "high": math.inf, "shape": shape, "dtype": "float32"}
        content["observations"] = box

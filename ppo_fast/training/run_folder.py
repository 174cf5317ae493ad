"""A run's folder: its name, and the files that are written once."""

import json
from itertools import count
from pathlib import Path
from typing import Any

from ppo_fast.config import TrainConfig
from ppo_fast.envs.specs import is_header
from ppo_fast.training.checkpoint import FILE_NAME


def create_run_folder(config: TrainConfig) -> Path:
    """Make the folder of a new run and write config.json into it.

    Without `config.out` this is runs/<env>-<algorithm>-s<seed>, with -2, -3 ... if taken.

    Raises
    ------
    FileExistsError
        If `config.out` exists.
    """
    if config.out is not None:
        if config.out.exists():
            hint = ""
            if (config.out / FILE_NAME).exists():
                hint = f", or go on with it: ppo-fast train --resume {config.out}"
            raise FileExistsError(f"{config.out} exists; choose another --out{hint}")
        config.out.mkdir(parents=True)
        folder = config.out
    else:
        folder = _make_free_folder(config)
    write_json(folder / "config.json", config.to_json())
    return folder


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file that people read, too."""
    path.write_text(json.dumps(content, indent=2) + "\n")


def _make_free_folder(config: TrainConfig) -> Path:
    env = config.env_id
    env = Path(env).stem if is_header(env) else env.replace("/", "-").replace(":", "-")
    stem = f"{env}-{config.algorithm}-s{config.seed}"
    for k in count(1):
        folder = Path("runs") / (stem if k == 1 else f"{stem}-{k}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable")

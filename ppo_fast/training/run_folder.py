"""A run's folder: its name, and the files that are written once."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from ppo_fast.config import TrainConfig
from ppo_fast.envs.specs import is_header
from ppo_fast.training.checkpoint import FILE_NAME
from ppo_fast.training.output import shell_word


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
                hint = f", or go on with it: ppo-fast train --resume {shell_word(config.out)}"
            raise FileExistsError(f"{config.out} exists; choose another --out{hint}")
        config.out.mkdir(parents=True)
        folder = config.out
    else:
        folder = _make_free_folder(config)
    write_json(folder / "config.json", config.to_json())
    return folder


@contextmanager
def sole_trainer(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a run's folder. Ends with this process, if not before.

    Raises
    ------
    BlockingIOError
        If another one does.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Workers of a process that was killed have its locks until they notice.
        give_up = time.monotonic() + 2
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise BlockingIOError(
                        f"{folder} is being trained by another process; stop that one first"
                    ) from None
                time.sleep(0.05)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(descriptor)


def lasting(config: TrainConfig) -> TrainConfig:
    """The settings with a header that is found from wherever the run is looked at."""
    if not is_header(config.env_id):
        return config
    return replace(config, env_id=str(Path(config.env_id).absolute()))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file that people read, too; a crash leaves it whole or absent."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote; ValueError for anything that is no JSON object."""
    content = json.loads(path.read_text())
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def is_finished(folder: Path) -> bool:
    """Whether a run has trained, and been evaluated, to its end."""
    return (folder / "summary.json").exists()


def reopen(folder: Path) -> None:
    """Make a finished run an unfinished one."""
    (folder / "summary.json").unlink(missing_ok=True)


def env_stem(env_id: str) -> str:
    """An environment's id, or its header's name, as a part of a file name."""
    if is_header(env_id):
        return Path(env_id).stem
    return env_id.replace("/", "-").replace(":", "-")


def _make_free_folder(config: TrainConfig) -> Path:
    stem = f"{env_stem(config.env_id)}-{config.algorithm}-s{config.seed}"
    for k in count(1):
        folder = Path("runs") / (stem if k == 1 else f"{stem}-{k}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable")

"""Many runs in a few processes: trained side by side, stopped and gone on with together."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from ppo_fast.config import TrainConfig
from ppo_fast.extras import require_train
from ppo_fast.info import build_info
from ppo_fast.training.checkpoint import FILE_NAME
from ppo_fast.training.fleet_display import FleetDisplay, make_fleet_display
from ppo_fast.training.metrics import Row
from ppo_fast.training.run_folder import is_finished, lasting, read_json
from ppo_fast.training.signals import stop_on_signal

_STOPPING = "stopping the runs; once more stops at once, without saving"


@dataclass(frozen=True)
class FleetRun:
    """One run of many: its name for people, and its config, whose `out` is its folder."""

    name: str
    config: TrainConfig

    @property
    def out(self) -> Path:
        assert self.config.out is not None
        return self.config.out

    @property
    def error_file(self) -> Path:
        """Where the traceback of a failure is left, beside the folder."""
        return self.out.with_name(f"{self.out.name}-error.txt")


class FleetInterrupted(KeyboardInterrupt):
    """Ctrl-C (or SIGTERM) stopped the runs, which are saved."""

    def __init__(self, finished: int, total: int) -> None:
        super().__init__(
            f"stopped with {finished} of {total} runs finished; the same command goes on"
        )
        self.finished = finished
        self.total = total


def one_thread(config: TrainConfig) -> TrainConfig:
    """A config that keeps to one processor, as runs that share a machine should."""
    return replace(config, torch_threads=1, num_threads=1)


def train_fleet(
    runs: Sequence[FleetRun], *, jobs: int | None = None, progress: bool = False
) -> dict[str, str]:
    """Train runs in worker processes; what is finished already is kept, what was stopped goes on.

    Parameters
    ----------
    runs
        What to train.
    jobs
        Processes at a time; None for one per processor that this process may use.
    progress
        Show how it goes: live in a terminal, else lines.

    Returns
    -------
    dict
        Name -> error, in one line, of the runs that failed; the others are finished.

    Raises
    ------
    ValueError
        If the folder of a run holds one of other settings, or something else; nothing is trained.
    FleetInterrupted
        On Ctrl-C or SIGTERM, after all workers have saved; a second one stops at once.
    """
    require_train()
    for run in runs:
        _check_folder(run)
    waiting = deque(run for run in runs if not is_finished(run.out))
    kept = len(runs) - len(waiting)
    display = make_fleet_display(progress, len(runs), kept)
    fleet = _Fleet(waiting, display)
    try:
        with stop_on_signal(_STOPPING if progress else None) as stop:
            fleet.train(jobs or build_info()["threads"], stop)
    finally:
        display.close()
    finished = kept + fleet.finished
    if finished + len(fleet.failures) < len(runs):
        raise FleetInterrupted(finished, len(runs))
    return fleet.failures


def _check_folder(run: FleetRun) -> None:
    """Refuse a folder that holds another run; clear one whose run never began."""
    if not run.out.exists():
        return
    path = run.out / "config.json"
    if not path.is_file():
        raise ValueError(f"{run.out} exists and holds no run; remove it or choose another folder")
    found, asked = (config.to_json() for config in (_read_config(path), lasting(run.config)))
    changed = [name for name in asked if name != "out" and found[name] != asked[name]]
    if changed:
        words = ", ".join(f"{name} {found[name]} instead of {asked[name]}" for name in changed)
        raise ValueError(f"{run.out} holds a run with {words}; remove it or choose another folder")
    if not (run.out / FILE_NAME).exists():
        shutil.rmtree(run.out)  # killed before its first update: there is only its config


def _read_config(path: Path) -> TrainConfig:
    try:
        return TrainConfig.from_json(read_json(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class _Worker:
    """A process of `ppo_fast.training.worker`."""

    def __init__(self, inbox: "SimpleQueue[tuple[_Worker, dict[str, Any] | None]]") -> None:
        self._inbox = inbox
        # Crashes speak on standard error; warnings of a healthy run are not shown.
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        path = [entry or os.getcwd() for entry in sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ppo_fast.training.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            # Ctrl-C in a terminal reaches this process only, which then asks the workers once.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        """Pass on what the process says; None when it has ended."""
        assert self._process.stdout is not None
        with self._process.stdout as lines, contextlib.suppress(ValueError):
            for line in lines:
                self._inbox.put((self, json.loads(line)))  # ValueError: it was killed in mid-line
        self._process.wait()
        self._inbox.put((self, None))

    def start(self, config: TrainConfig) -> None:
        """Give it a run."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended, and `_listen` says so
            self._process.stdin.write(json.dumps(config.to_json()) + "\n")
            self._process.stdin.flush()

    def stop(self) -> None:
        """Ask it to save and end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def close(self) -> str:
        """End it now if it has not ended; says how it did, and its last line of errors."""
        self._process.kill()
        code = self._process.wait()
        self.stop()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        self._errors.close()
        how = f"by signal {-code}" if code < 0 else f"with status {code}"
        return ": ".join([f"its process ended {how}", *lines[-1:]])


class _Fleet:
    """The workers, and who trains what."""

    def __init__(self, waiting: deque[FleetRun], display: FleetDisplay) -> None:
        self.failures: dict[str, str] = {}
        self.finished = 0
        self._waiting = waiting
        self._display = display
        self._stopping = False
        self._workers: dict[_Worker, FleetRun | None] = {}
        self._inbox: SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = SimpleQueue()

    def train(self, jobs: int, stop: threading.Event) -> None:
        """Runs side by side until there are no more, or until `stop` is set and they have saved."""
        try:
            for _ in range(min(jobs, len(self._waiting))):
                self._assign(_Worker(self._inbox))
            while self._workers:
                news = []
                with contextlib.suppress(Empty):
                    news.append(self._inbox.get(timeout=0.1))
                # Before the news is told: the same signal may have stopped the workers.
                if stop.is_set() and not self._stopping:
                    self._stopping = True
                    for worker in self._workers:
                        worker.stop()
                for worker, message in news:
                    self._handle(worker, message)
        finally:
            for worker in self._workers:
                worker.close()

    def _assign(self, worker: _Worker) -> None:
        """Give a worker the next run, or let it go."""
        if self._stopping or not self._waiting:
            self._workers[worker] = None
            worker.stop()
            return
        run = self._workers[worker] = self._waiting.popleft()
        self._display.start(run.name, run.config)
        worker.start(run.config)

    def _handle(self, worker: _Worker, message: dict[str, Any] | None) -> None:
        """What a worker says; None when it has ended."""
        run = self._workers[worker]
        if message is None:
            del self._workers[worker]
            words = worker.close()
            if run is not None:  # it crashed, or was stopped before it could say so
                self._end(run, None, "stopped" if self._stopping else "failed", words)
                if self._waiting and not self._stopping:
                    self._assign(_Worker(self._inbox))
            return
        assert run is not None
        row = message["row"]
        if "end" not in message:
            self._display.update(run.name, row)
            return
        how, error = message["end"], message.get("error", "")
        if how == "failed":
            run.error_file.parent.mkdir(parents=True, exist_ok=True)
            run.error_file.write_text(message["traceback"], encoding="utf-8")
            error += f"; traceback in {run.error_file}"
        elif how == "stopped" and not self._stopping:
            how, error = "failed", "its process was told to stop"
        self._end(run, row, how, error)
        self._assign(worker)

    def _end(self, run: FleetRun, row: Row | None, how: str, error: str) -> None:
        if how == "finished":
            self.finished += 1
            run.error_file.unlink(missing_ok=True)
        elif how == "failed":
            self.failures[run.name] = error
        self._display.end(run.name, row, how, error)

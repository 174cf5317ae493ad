"""TensorBoard's event file, written by the trainer's own thread.

TensorBoard's writer computes checksums in Python, on a thread of its own: 0.1 ms for each row, in
which a core that the learner counts on is busy. The format is TFRecord: of each record the length,
its checksum, the data, their checksum.
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppo_fast import _core
from ppo_fast.extras import require

_NO_SERIES = ("update", "steps")  # they count, and steps are the x axis


class EventFile:
    """A new event file in a folder."""

    def __init__(self, folder: Path) -> None:
        self._event = require("tensorboard.compat.proto.event_pb2")
        name = f"events.out.tfevents.{int(time.time()):010}.{socket.gethostname()}.{os.getpid()}"
        count = len(list(folder.glob(f"{name}.*")))  # a process may resume its own run
        self._file = (folder / f"{name}.{count}").open("xb")
        # A row's event is made once and filled in by every row.
        self._row: Any = None
        self._values: dict[str, Any] = {}
        self._write(self._event.Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, row: Mapping[str, float]) -> None:
        """A row of metrics as an event of as many scalars; all rows have the same names."""
        if self._row is None:
            self._row = self._event.Event()
            add = self._row.summary.value.add
            self._values = {name: add(tag=name) for name in row if name not in _NO_SERIES}
        self._row.wall_time = time.time()
        self._row.step = int(row["steps"])
        for name, value in self._values.items():
            value.simple_value = row[name]
        self._write(self._row)

    def restart_after(self, last: Mapping[str, float]) -> None:
        """Tell TensorBoard to drop what an interrupted process wrote after this row."""
        log = self._event.SessionLog(status=self._event.SessionLog.START)
        step = int(last["steps"]) + 1
        self._write(self._event.Event(wall_time=time.time(), step=step, session_log=log))

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def _write(self, event: Any) -> None:
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        self._file.write(length + _checksum(length) + data + _checksum(data))


def _checksum(data: bytes) -> bytes:
    """TFRecord's: CRC-32C, rotated by 15 bits, and a constant added."""
    crc = _core.crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

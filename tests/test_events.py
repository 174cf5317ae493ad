"""TensorBoard's event file: read back by TensorBoard, checksums against its own and RFC 3720's."""

import socket

import pytest

from ppo_fast import _core

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c

from ppo_fast.training.events import EventFile


# RFC 3720, appendix B.4
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
    ],
)
def test_checksum_of_known_data(data, expected):
    assert _core.crc32c(data) == expected


@pytest.mark.parametrize("size", [1, 7, 8, 9, 700, 4096])
def test_checksum_is_tensorboards(size):
    data = bytes((i * 37 + 11) % 256 for i in range(size))
    assert _core.crc32c(data) == crc32c(data)


def test_checksum_is_of_bytes():
    with pytest.raises(TypeError):
        _core.crc32c("text")


def events_of(folder):
    """All events of a folder's files, in the order of their names."""
    files = sorted(folder.glob("events.out.tfevents.*"))
    return [event for path in files for event in EventFileLoader(str(path)).Load()]


def scalars(event):
    return {value.tag: value.tensor.float_val[0] for value in event.summary.value}


def test_rows_are_events_of_scalars(tmp_path):
    file = EventFile(tmp_path)
    file.add({"update": 1, "steps": 256, "mean_return": 20.5, "episodes": 3})
    file.add({"update": 2, "steps": 512, "mean_return": float("nan"), "episodes": 4})
    file.close()
    header, first, second = events_of(tmp_path)
    assert header.file_version == "brain.Event:2"
    assert (first.step, second.step) == (256, 512)
    assert scalars(first) == {"mean_return": 20.5, "episodes": 3}
    assert str(scalars(second)["mean_return"]) == "nan"
    assert header.wall_time <= first.wall_time <= second.wall_time


def test_flushed_rows_are_on_disk(tmp_path):
    file = EventFile(tmp_path)
    file.add({"steps": 1, "x": 2.0})
    file.flush()
    assert len(events_of(tmp_path)) == 2
    file.close()


def test_a_process_may_open_several_files(tmp_path):
    for step in (1, 2):
        file = EventFile(tmp_path)
        file.add({"steps": step, "x": 0.0})
        file.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2
    assert all(f".{socket.gethostname()}." in name for name in names)
    assert [event.step for event in events_of(tmp_path)] == [0, 1, 0, 2]


def test_restart_tells_tensorboard_what_to_drop(tmp_path):
    file = EventFile(tmp_path)
    file.restart_after({"steps": 512})
    file.close()
    _, restart = events_of(tmp_path)
    assert restart.session_log.status == restart.session_log.START
    assert restart.step == 513

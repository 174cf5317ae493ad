"""The Python code of the documents runs, and the documents know what the package has."""

import dataclasses
import re
import shutil
from pathlib import Path

import pytest

from ppo_fast import TrainConfig, cli
from ppo_fast.envs import NATIVE_SPECS, build
from ppo_fast.integrations import LIBRARIES
from ppo_fast.surrogate import STATS

ROOT = Path(__file__).parents[1]
ADVANTAGE = ROOT / "docs" / "advantage.md"
ENVS = ROOT / "docs" / "envs.md"
LOSSES = ROOT / "docs" / "losses.md"
LECTURE = ROOT / "docs" / "lecture.md"
TRAINING = ROOT / "docs" / "training.md"


def python_blocks(path):
    """The blocks marked as Python, each behind as many empty lines as stand before it."""
    text = path.read_text(encoding="utf-8")
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield "\n" * text.count("\n", 0, match.start(1)) + match[1]


@pytest.mark.filterwarnings("ignore")  # other libraries' warnings are not our subject
@pytest.mark.parametrize(
    "path", [ROOT / "README.md", ADVANTAGE, ENVS, LOSSES, TRAINING], ids=lambda path: path.name
)
def test_the_code_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = list(python_blocks(path))
    assert blocks
    missing = set()
    names = {"__name__": path.stem}  # later blocks use what earlier ones made
    for block in blocks:
        try:
            exec(compile(block, path, "exec"), names)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("ppo_fast"):
                raise
            missing.add(error.name.partition(".")[0])
    if missing:
        pytest.skip(f"the rest runs; not installed: {', '.join(sorted(missing))}")


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_integration_is_in_the_table(name):
    source = ROOT / "ppo_fast" / "integrations" / f"{name}.py"
    can_be_patched = "\ndef targets(" in source.read_text(encoding="utf-8")
    words = f'`patch("{name}")`' if can_be_patched else f"ppo_fast.integrations.{name}"
    rows = [line for line in ADVANTAGE.read_text(encoding="utf-8").splitlines() if words in line]
    assert any(row.startswith("|") for row in rows)


def test_the_guide_to_environments_has_them_all():
    text = ENVS.read_text(encoding="utf-8")
    for env_id, spec in NATIVE_SPECS.items():
        assert env_id in text
        assert all(f"`{option}`" in text for option in spec.default_options)


def test_the_page_of_algorithms_has_every_option_and_its_default():
    text = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(TrainConfig):
        assert f"`{field.name}`" in text, field.name
    defaults = vars(TrainConfig("CartPole-v1"))
    tables = re.findall(r"^\| option \| default \|.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", "".join(tables), re.MULTILINE)
    assert len(rows) > 20
    for name, words in rows:
        default = defaults[name]
        if isinstance(default, float):
            assert float(words) == default, name
        else:
            assert words.replace(",", "").lower() == str(default).lower(), name


def test_the_page_of_algorithms_has_every_column():
    text = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")
    reported = {*STATS, "kl", "learning_rate", "epochs", "beta", "clip_range", "step_size"}
    for name in reported:
        assert f"`{name}`" in text, name


@pytest.mark.skipif(not shutil.which("c++"), reason="there is no C++ compiler")
def test_the_guides_own_environment_works(tmp_path, monkeypatch):
    monkeypatch.setenv("PPO_FAST_CACHE", str(tmp_path))
    (source,) = re.findall(
        r"^```cpp\n(.*?)^```$", ENVS.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    header = tmp_path / "drive.h"
    header.write_text(source)
    env = build(header)(4, power=0.2)
    env.reset(seed=0)
    for _ in range(40):
        terminated = env.step([2, 2, 2, 2])[2]
        if terminated.any():
            break
    assert terminated.any()
    NATIVE_SPECS.pop("Drive-v0")


def lecture_commands():
    """The options of each command of the lecture."""
    text = LECTURE.read_text(encoding="utf-8")
    return re.findall(
        r"^- `(?:ppo-fast train CartPole-v1 )?(--algorithm [^`]+)`", text, re.MULTILINE
    )


def test_the_lecture_has_a_command_for_each_algorithm():
    named = {command.split()[1] for command in lecture_commands()}
    assert named == {"reinforce", "a2c", "ppo-unclipped", "trpo", "ppo-kl", "ppo-clip"}


@pytest.mark.parametrize("options", lecture_commands())
def test_the_commands_of_the_lecture_run(options, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    few = ["--total-steps", "256", "--eval-episodes", "1", "--out", "run"]
    assert cli.main(["train", "CartPole-v1", *options.split(), *few]) == 0, capsys.readouterr().err

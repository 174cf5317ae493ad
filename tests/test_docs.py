"""The Python code of the documents runs, and the documents know what the package has."""

import dataclasses
import json
import re
import shutil
import statistics
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
    if path == TRAINING:
        pytest.importorskip("torch")
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
    originals = {env_id: spec for env_id, spec in NATIVE_SPECS.items() if spec.original is not None}
    assert len(originals) == 6
    for env_id, spec in originals.items():
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


# README's figures are those of benchmarks/results


def results(benchmark, **fields):
    """Records of the last run of a benchmark that have these fields, in order."""
    path = ROOT / "benchmarks" / "results" / f"{benchmark}.json"
    records = json.loads(path.read_text(encoding="utf-8"))["results"]
    return [record for record in records if record.items() >= fields.items()]


def across(columns):
    """Rows of columns."""
    return zip(*columns, strict=True)


def rates_of_envs(env_id, num_envs):
    """Million steps a second: ours with 1 and 2 threads, EnvPool at its best, Gymnasium's two."""
    (record,) = results("envs", env_id=env_id, num_envs=num_envs)
    rates = {name: rate / 1e6 for name, rate in record["steps_per_second"].items()}
    ours = (rates["ppo_fast, 1 thread"], rates["ppo_fast, 2 threads"])
    gymnasium = (rates["Gymnasium sync"], rates.get("Gymnasium vectorised"))
    return *ours, rates[record["best_envpool"]], *gymnasium


def envs_by_size():
    sizes = (1, 8, 64, 1024, 4096, 65536)
    one, two, envpool, sync, vectorised = across(rates_of_envs("CartPole-v1", n) for n in sizes)
    return one, two, vectorised, sync, envpool


def other_envs():
    ids = ("MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1", "Acrobot-v1")
    return list(across(rates_of_envs(env_id, 1024) for env_id in ids))[:4]


def trainings():
    cartpole, halfcheetah = (
        results("train", env_id=name)[0]["contenders"] for name in ("CartPole-v1", "HalfCheetah-v5")
    )

    def best(contender):
        return max(
            contender["by_threads"].values(),
            key=lambda runs: statistics.median(runs["steps_per_second"]),
        )

    for name, contender in cartpole.items():
        runs = best(contender)
        row = [statistics.median(runs["steps_per_second"]), statistics.fmean(runs["returns"])]
        if name in halfcheetah:
            row.append(statistics.median(best(halfcheetah[name])["steps_per_second"]))
        yield row


def gradient_steps():
    columns = []
    ours = ("ppo_fast", "ppo_fast, 2 threads")
    for record in results("learner", part="update"):
        contenders = record["contenders"]
        others = ("torch eager", "torch.compile", "stable-baselines3")
        column = [contenders[name]["seconds"] * 1e6 for name in ours]
        columns.append(column + [contenders[name]["ratio"] for name in others])
    return across(columns)


def advantages():
    peers = ("Tianshou, numba", "stable-baselines3", "torch loop like CleanRL's")
    torchrl = ("TorchRL, loop", "TorchRL, vectorised")
    for shape, name, unit in (
        ([128, 8], "ppo_fast", 1e6),
        ([2048, 1], "ppo_fast", 1e6),
        ([128, 1024], "ppo_fast", 1e6),
        ([1024, 4096], "ppo_fast, out", 1e3),
        ([10**6, 1], "ppo_fast", 1e3),
    ):
        (record,) = results("advantage", shape=shape)
        seconds = {name: made["seconds"] for name, made in record["contenders"].items()}
        others = (*map(seconds.get, peers), min(map(seconds.get, torchrl)))
        yield [seconds[name] * unit, *(other / seconds[name] for other in others)]


def losses():
    for batch in (256, 16384):
        row = []
        for family, width in (
            ("categorical", 2),
            ("categorical", 6),
            ("categorical", 18),
            ("gaussian", 6),
        ):
            (record,) = results("surrogate", family=family, batch=batch, width=width)
            made = record["contenders"]
            row += [
                made["ppo_fast"]["seconds"] * 1e6,
                made["torch eager"]["ratio"],
                made["torch eager, loss alone"]["ratio"],
            ]
        yield row


@pytest.mark.parametrize(
    ("corner", "rows"),
    [
        ("CartPole-v1, million env-steps/s", envs_by_size),
        ("1,024 environments, million env-steps/s", other_envs),
        ("training, better of 1 and 2 threads, five seeds", trainings),
        ("gradient step of two 64 x 64 tanh networks", gradient_steps),
        ("T x N", advantages),
        ("batch", losses),
    ],
)
def test_figures_are_those_of_the_results(corner, rows):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(
        rf"^\| {re.escape(corner)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE
    )
    for line, expected in zip(table.splitlines(), rows(), strict=True):
        shown = re.findall(r"\d[\d,]*(?:\.\d+)?", line.split("|", 2)[2])
        rounded = [
            f"{value:,.{len(number.partition('.')[2])}f}"
            for value, number in zip(expected, shown, strict=True)
        ]
        assert shown == rounded, line


def test_ratios_in_words_are_those_of_the_results():
    readme, changes = (
        " ".join((ROOT / name).read_text(encoding="utf-8").split())
        for name in ("README.md", "CHANGELOG.md")
    )
    cartpole, halfcheetah = (
        results("train", env_id=name)[0]["contenders"]["stable-baselines3"]["ours_over_it"]
        for name in ("CartPole-v1", "HalfCheetah-v5")
    )
    assert f"{cartpole:.0f} times stable-baselines3's steps per second" in readme
    assert f"{halfcheetah:.1f} times (20,480 steps" in readme
    one, _, _, _, vectorised = rates_of_envs("CartPole-v1", 4096)
    assert f"{one / vectorised:.1f} times Gymnasium's vectorised CartPole" in changes


def test_the_table_of_the_preset_is_that_of_its_results():
    # Steps and returns depend on the seed alone. Seconds are those of trainings one by one.
    (record,) = results("presets", env_id="CartPole-v1", algorithm="ppo-clip")
    rows = [("steps", record["steps"], 0), ("return", record["returns"], 0)]
    for timed in results("train", preset="ppo-clip"):
        rows += [("steps", timed["steps"], 0), ("seconds of training", timed["seconds"], 2)]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, values, digits in rows:
        (row,) = re.findall(rf"^\| {name} \|(.*)\|$", text, re.MULTILINE)
        assert [cell.strip() for cell in row.split("|")] == [f"{x:,.{digits}f}" for x in values]

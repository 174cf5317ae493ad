"""The command line: exit status, errors in a single line, help, and missing packages."""

import dataclasses
import json
import math
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import tiny_envs
from test_config import field_docstrings

import ppo_fast
from ppo_fast import TrainConfig, cli
from ppo_fast.bench import BENCHMARKS
from ppo_fast.cli import _one_line, main

pytest.importorskip("torch")
pytest.importorskip("tyro")

from ppo_fast.training.rungs import RUNGS

ENV = "CartPole-v1"
QUICK = ["--total-steps", "512", "--num-envs", "8", "--num-steps", "64", "--num-epochs", "1"]


def run(*command, **settings):
    """A process, started in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=120, **settings
    )


@pytest.fixture
def call(capfd, tmp_path, monkeypatch):
    """Runs `main` in an empty folder; gives exit status, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def run_main(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # how tyro ends after --help
            status = stop.code or 0
        return status, *capfd.readouterr()

    return run_main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a tiny finished run."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    config = TrainConfig(
        ENV, total_steps=1024, num_envs=8, num_steps=64, num_epochs=1, eval_episodes=0, out=out
    )
    return ppo_fast.train(config).out


def assert_error(result, status, pattern):
    """The exit status, and one line on standard error that matches."""
    assert result[0] == status, result
    assert result[2].count("\n") == 1, result[2]
    assert re.search(pattern, result[2]), result[2]
    assert result[1] == ""


# Usage


def test_no_arguments_show_the_usage():
    process = run("-m", "ppo_fast.cli")
    assert process.returncode == 2
    assert "usage: ppo-fast COMMAND" in process.stdout + process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(call, option):
    status, output, error = call(option)
    assert (status, error) == (0, "")
    for command in ("train ENV", "train --resume RUN", "eval RUN", "ladder ENV", "bench", "info"):
        assert command in output


def test_version(call):
    assert call("--version") == (0, f"{ppo_fast.__version__}\n", "")


def test_installed_command():
    command = Path(sys.executable).with_name("ppo-fast")
    if not command.exists():
        pytest.skip("the package is not installed in this environment")
    process = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout) == (0, f"{ppo_fast.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("frobnicate", "unknown command 'frobnicate'; there are train, eval, ladder, bench, info"),
        ("train", "give an environment first, e.g. ppo-fast train CartPole-v1"),
        ("train --seed 3", "give an environment first"),
        ("train --env-id CartPol-v1", "unknown environment 'CartPol-v1'; did you mean CartPole-v1"),
        ("train CartPol-v1", "unknown environment 'CartPol-v1'; did you mean CartPole-v1"),
        ("train Akrobot-v1", "unknown environment 'Akrobot-v1'; did you mean Acrobot-v1"),
        ("train CartPole-v1 Acrobot-v1", "Unrecognized options: Acrobot-v1"),
        (
            "train CartPole-v1 --env-id Acrobot-v1 --total-steps 2048 --eval-episodes 0",
            "CartPole-v1.*Acrobot-v1|Acrobot-v1.*CartPole-v1",
        ),
        ("train CartPole-v1 --total-steps -5", "total_steps must be at least 1, got -5"),
        (f"train CartPole-v1 --total-steps {10**400}", r"total_steps must be below 2\*\*63"),
        ("train CartPole-v1 --total-steps many", "--total-steps: .*'many'"),
        ("train CartPole-v1 --seed", "--seed"),
        ("train CartPole-v1 --seed -1", "seed must be at least 0, got -1"),
        ("train CartPole-v1 --gamma 1.5", r"gamma must be in \[0, 1\], got 1.5"),
        ("train CartPole-v1 --hidden-sizes 64 -64", r"hidden_sizes must be positive integers"),
        ("train CartPole-v1 --total-step 512", r"--total-step, 512; did you mean --total-steps\?$"),
        ("train CartPole-v1 --lerning-rate=1", r"did you mean --learning-rate\?$"),
        ("train CartPole-v1 --algorithm a3c", "algorithm must be one of .*ppo-clip, got 'a3c'"),
        ("train CartPole-v1 --algorithm", "--algorithm"),
        ("train CartPole-v1 --algorithm trpo --shared-trunk", "trpo needs a policy with"),
        ("train CartPole-v1 --algorithm ppo-kl --kl-min 0.2 --kl-max 0.1", "kl_min .0.2. must be"),
        (
            "train CartPole-v1 --algorithm a2c --target-kl 0.001",
            "a2c does not take target_kl, got 0.001; it is an option of ppo-unclipped, ppo-kl, ppo",
        ),
        (
            "train CartPole-v1 --algorithm ppo-kl --kl-rule distributed --target-kl 0.1",
            "kl_rule distributed ends the epochs .*leave out target_kl",
        ),
        ("train CartPole-v1 --algorithm ppo-kl --kl-coef -1", "kl_coef must not be negative"),
        ("train CartPole-v1 --algorithm reinforce --credit some", "'some'.*--credit"),
        ("train CartPole-v1 --normalize-advantages yes", "'yes'.*--normalize-advantages"),
        ("train Pendulum-v1 --continuous gsde --state-dependent-std", "leave out state_dependent"),
        ("train Pendulum-v1 --continuous beta", "'beta'.*--continuous"),
        ("train CartPole-v1 --activation gelu", "'gelu'.*--activation"),
        (
            "train CartPole-v1 --minibatch-size 100000",
            r"minibatch_size \(100000\) must not exceed the samples of a rollout, "
            r"num_envs \* num_steps = 32 \* 64 = 2048",
        ),
        (
            "train CartPole-v1 --resume run",
            "Unrecognized options: CartPole-v1; --resume RUN takes no environment and no other opt",
        ),
        (
            "train --resume run --seed 3",
            "--seed, 3; --resume RUN takes no environment and no other",
        ),
        ("train CartPole-v1 --device gpu", "device must be cpu, cuda, or cuda with a number such"),
        ("train --resume run --device gpu", "^ppo-fast train: --device must be cpu, cuda, or cuda"),
        (
            "train CartPole-v1 --lr 3",
            r"Unrecognized options: --lr, 3; did you mean --learning-rate\?$",
        ),
        ("train CartPole-v1 --lr=3", r"did you mean --learning-rate\?$"),
        ("train CartPole-v1 --clip-range-vf 1", r"did you mean --clip-range-values\?$"),
        ("train CartPole-v1 --clip-vloss", r"did you mean --clip-range-values\?$"),
        ("train CartPole-v1 --ent_coef 1", r"did you mean --entropy-coef\?$"),
        ("train CartPole-v1 --vf-coef 1", r"did you mean --value-coef\?$"),
        (
            "train CartPole-v1 --n-steps 5 --n-epochs 3 --batch-size 1",
            r"did you mean --num-steps and --num-epochs and --minibatch-size\?$",
        ),
        ("train CartPole-v1 --aneal-lr", r"did you mean --anneal-lr\?$"),
        ("eval run --lr 3", r"Unrecognized options: --lr, 3$"),
        ("train --resume", "--resume"),
        ("train --resume run --total-steps 0", "^ppo-fast train: --total-steps must be at least 1"),
        ("eval", "RUN|PATH"),
        ("eval run --episodes 0", "--episodes must be at least 1, got 0"),
        ("eval run --seed -1", "--seed must not be negative, got -1"),
        ("eval run --episode 3", r"did you mean --episodes\?$"),
        ("ladder", "give an environment first, e.g. ppo-fast ladder CartPole-v1"),
        ("ladder --seeds 2", "give an environment first"),
        ("ladder CartPole-v1 Acrobot-v1", "Unrecognized options: Acrobot-v1"),
        ("ladder CartPol-v1", "unknown environment 'CartPol-v1'; did you mean CartPole-v1"),
        ("ladder CartPole-v1 --rungs crtic", r"unknown rung 'crtic'; did you mean critic\?$"),
        ("ladder CartPole-v1 --rungs x", "unknown rung 'x'; there are policy-gradient, baseline, "),
        ("ladder CartPole-v1 --rungs ,", "no rung is given; there are policy-gradient, "),
        ("ladder CartPole-v1 --seeds 0", "--seeds must be at least 1, got 0"),
        ("ladder CartPole-v1 --total-steps 0", "--total-steps must be at least 1, got 0"),
        ("ladder CartPole-v1 --jobs -1", "--jobs must be at least 1, got -1"),
        ("ladder CartPole-v1 --seed 3", r"did you mean --seeds\?$"),
        (
            "bench presets --only CartPol-v1",
            r"no preset for 'CartPol-v1'; did you mean CartPole-v1",
        ),
        ("bench presets --algorithm clip", r"no preset with 'clip'; .*ppo-clip"),
        ("bench presets --seeds 0", "--seeds must be at least 1, got 0"),
        (
            "bench frob",
            "unknown benchmark 'frob'; there are advantage, envs, surrogate, learner, train, ",
        ),
        ("bench envs --seconds 0", "--seconds must be positive, got 0"),
        ("bench --out results", "--out is for one benchmark; give its name"),
        ("bench train --seeds 0", "--seeds must be at least 1, got 0"),
        ("bench train --halfcheetah-steps -1", "--halfcheetah-steps must not be negative, got -1"),
        ("bench train --name envs", "give one benchmark, not both train and --name envs"),
        ("bench envs --name train", "give one benchmark, not both envs and --name train"),
        ("bench envs --name=train", "give one benchmark, not both envs and --name train"),
        ("info all", "takes no arguments, got all"),
    ],
)
def test_wrong_usage(call, arguments, message):
    result = call(*arguments.split())
    assert_error(result, 2, message)
    command = arguments.split()[0]
    assert result[2].startswith(
        "ppo-fast: " if command == "frobnicate" else f"ppo-fast {command}: "
    )
    # Names of our classes mean nothing on a command line.
    assert "TrainConfig" not in result[2]
    assert "Options" not in result[2]
    assert os.listdir() == []


@pytest.mark.parametrize("sides", ["│─╭╮╰╯", "|-++++", "║═╔╗╚╝", "      "])
def test_the_message_is_found_in_any_box(sides):
    box = "\n".join(
        (
            "╭─ Missing argument ───────────────────────╮",
            "│ Missing value for argument '--seed'.     │",
            "│ ──────────────────────────────────────── │",
            "│ For full helptext, run ppo-fast --help   │",
            "╰──────────────────────────────────────────╯",
        )
    )
    message = _one_line(box.translate(str.maketrans("│─╭╮╰╯", sides)), set())
    assert "Missing value for argument '--seed'." in message
    assert not set(message) & set("│─╭╮╰╯║═╔╗╚╝|\n")


@pytest.mark.parametrize("command", ["train --resume", "eval"])
def test_no_run_in_the_folder(call, command, tmp_path):
    for folder in ("nothing", tmp_path):
        result = call(*command.split(), folder)
        assert_error(result, 1, r"holds no checkpoint\.pt; give the folder of a training run$")


@pytest.mark.parametrize("command", ["train --resume", "eval"])
def test_damaged_checkpoint(call, command, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"a" * 1000)
    assert_error(call(*command.split(), tmp_path), 1, r"checkpoint\.pt cannot be read")


def test_eval_on_an_environment_that_gives_nan(call, faulty, tmp_path):
    config = TrainConfig(
        tiny_envs.FAULTY, total_steps=256, num_envs=2, eval_episodes=0, num_steps=128, out="run"
    )
    ppo_fast.train(config)
    faulty.fault = ("observations", faulty.calls + 5, math.nan)
    assert_error(
        call("eval", "run"), 1, "tiny/faulty-v0 cannot be played on: predict: obs must be finite"
    )


@pytest.mark.parametrize("error", [FloatingPointError("diverged"), OverflowError("too large")])
def test_arithmetic_errors_are_one_line(call, trained, monkeypatch, error):
    def load(folder, best):
        raise error

    monkeypatch.setattr(ppo_fast.training, "load", load)
    assert_error(call("eval", trained), 1, f"^ppo-fast eval: {error}$")


def test_resume_of_a_finished_run(call, trained):
    assert_error(call("train", "--resume", trained), 1, "has finished its 1,024 steps")


def test_a_finished_run_with_more_steps(call, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "longer")
    _, output, _ = call("train", "--resume", "longer", "--total-steps", "2048")
    assert "trained 2,048 steps" in output


def test_existing_folder(call, tmp_path):
    (tmp_path / "mine").mkdir()
    assert_error(
        call("train", ENV, *QUICK, "--out", "mine"),
        1,
        r"mine exists; choose another --out$",
    )
    assert os.listdir("mine") == []


def test_environments_that_cannot_be_trained_on(call, tiny):
    message = f"{tiny_envs.WORDS} has observations that cannot be rows: Text"
    assert_error(call("train", tiny_envs.WORDS), 1, message)
    assert os.listdir() == []


def test_keywords_of_environments(call):
    given = ["is_slippery=False", "desc=['SFG']", "max_episode_steps=9", "render_fps=", "x=a=b"]
    assert_error(
        call("train", "FrozenLake-v1", "--env-kwargs", *given),
        1,
        r"FrozenLake-v1 cannot be made with .*'is_slippery': False, 'desc': \['SFG'\], "
        "'render_fps': '', 'x': 'a=b'",
    )
    result = call("train", "FrozenLake-v1", *QUICK, "--env-kwargs", *given[:3], "--out", "run")
    assert result[0] == 0
    kept = json.loads(Path("run/config.json").read_text())["env_kwargs"]
    assert kept == {"is_slippery": False, "desc": ["SFG"], "max_episode_steps": 9}
    twice = ["--env-kwargs", "is_slippery=False", "--env-kwargs", "map_name=8x8"]
    assert_error(call("train", "FrozenLake-v1", *twice), 2, "give --env-kwargs once, with each")
    for wrong in ("is_slippery", "=3", "is-slippery=False"):
        assert_error(
            call("train", "FrozenLake-v1", "--env-kwargs", wrong),
            2,
            f"--env-kwargs: '{wrong}' is not of the form NAME=VALUE",
        )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("True", True),
        ("false", False),
        ("none", None),
        ("null", None),
        ("-0.5", -0.5),
        ("1e-3", 1e-3),
        ("[1, 2]", [1, 2]),
        ("'3'", "3"),
        ("8x8", "8x8"),
        ("", ""),
    ],
)
def test_values_of_keywords(text, value):
    given = cli._keyword_value(text)
    assert (given, type(given)) == (value, type(value))


@pytest.mark.skipif(find_spec("Box2D") is not None, reason="needs an environment that lacks Box2D")
@pytest.mark.parametrize("num_envs", [1, 2])
def test_environment_whose_own_packages_are_missing(call, num_envs):
    arguments = ["--num-envs", num_envs, "--minibatch-size", 64]
    result = call("train", "LunarLander-v3", *arguments)
    assert_error(result, 1, r"Box2D is not installed.*gymnasium\[box2d\]")
    assert os.listdir() == []


# Help


def plain(output):
    """Help without the boxes that it is drawn in."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", output).split())


def test_train_help_documents_every_field(call):
    status, output, error = call("train", "--help")
    assert (status, error) == (0, "")
    text = plain(output)
    for name, docstring in field_docstrings().items():
        assert re.search(rf"--{name.replace('_', '-')}\b", text), name
        assert " ".join(docstring.split()) in text, name
    assert "ppo-fast train --resume RUN" in text


def test_train_help_of_an_environment_shows_its_preset(call):
    def default_of_total_steps(*arguments):
        text = plain(call("train", *arguments, "--help")[1])
        return re.search(r"rounded up to whole rollouts\. \(default: (\d+)\)", text)[1]

    assert default_of_total_steps() == str(TrainConfig(ENV).total_steps)
    assert default_of_total_steps(ENV) == str(TrainConfig.preset(ENV).total_steps)


def test_bench_help_names_every_benchmark(call):
    assert f"What to measure: {', '.join(BENCHMARKS)} or all;" in plain(call("bench", "--help")[1])


def test_ladder_help_names_every_rung(call):
    assert f"by default: {', '.join(rung.name for rung in RUNGS)}." in plain(
        call("ladder", "--help")[1]
    )


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train --resume run", ["--resume", "Folder of the run"]),
        ("eval", ["--episodes", "--seed", "--stochastic", "--video"]),
        ("ladder", ["--rungs", "--seeds", "--total-steps", "--jobs", "--out", "ladder.png"]),
        ("bench", ["--seconds", "train or all", "presets have options of their own"]),
        ("bench train", ["--seeds", "--total-steps", "--halfcheetah-steps", "--out"]),
        ("bench presets", ["--only", "--algorithm", "--seeds", "--jobs", "--runs", "--document"]),
        ("info", ["usage: ppo-fast info"]),
    ],
)
def test_help_of_commands(call, command, words):
    status, output, error = call(*command.split(), "--help")
    assert (status, error) == (0, "")
    for word in words:
        assert word in plain(output)


# Commands


def test_info(call):
    status, output, error = call("info")
    assert (status, error) == (0, "")
    facts = dict(line.split(maxsplit=1) for line in output.splitlines())
    build = ppo_fast.build_info()
    assert facts["version"] == build["version"]
    assert facts["compiler"] == build["compiler"]
    assert facts["flags"] == build["flags"]
    assert facts["isa"].split()[0] == build["isa"]
    assert facts["cuda"].split()[0] == ("yes" if build["cuda"] else "no")
    assert facts["threads"] == str(build["threads"])
    assert facts.keys() >= {"python", "numpy", "gymnasium", "torch"}


def test_train_with_nothing_but_an_environment(call):
    # The first command that anybody types.
    status, output, error = call("train", ENV)
    assert (status, error) == (0, "")
    assert "over 100 episodes on Gymnasium's environment" in output
    assert output.endswith("again: ppo-fast eval runs/CartPole-v1-ppo-clip-s0\n")
    assert ppo_fast.load("runs/CartPole-v1-ppo-clip-s0").config == TrainConfig.preset(
        ENV, out="runs/CartPole-v1-ppo-clip-s0"
    )


def test_environment_as_a_flag(call):
    # Its preset holds either way.
    arguments = [*QUICK, "--eval-episodes", "0", "--out"]
    for environment, out in (([ENV], "a"), (["--env-id", ENV], "b"), ([f"--env-id={ENV}"], "c")):
        assert call("train", *environment, *arguments, out)[0] == 0
        config = ppo_fast.load(out).config
        assert config.learning_rate == TrainConfig.preset(ENV).learning_rate
        assert config == dataclasses.replace(ppo_fast.load("a").config, out=Path(out))


def test_the_last_of_two_algorithms_holds(call):
    # With its own preset, whichever spelling was used.
    arguments = ["--total-steps", "64", "--eval-episodes", "0", "--out"]
    for k, second in enumerate((["--algorithm", "a2c"], ["--algorithm=a2c"])):
        assert call("train", ENV, "--algorithm", "trpo", *second, *arguments, k)[0] == 0
        assert ppo_fast.load(str(k)).config == TrainConfig.preset(
            ENV, algorithm="a2c", total_steps=64, eval_episodes=0, out=Path(str(k))
        )


def test_train_then_eval(tmp_path):
    process = run(
        *("-m", "ppo_fast.cli", "train", ENV, *QUICK),
        *("--eval-episodes", "2", "--no-anneal-lr", "--hidden-sizes", "8", "--out", "run"),
        cwd=tmp_path,
    )
    assert (process.returncode, process.stderr) == (0, "")
    lines = process.stdout.splitlines()
    assert lines[-4].startswith("trained 512 steps in ")
    assert re.fullmatch(
        r"CartPole-v1: mean return \d+\.\d \+- \d+\.\d over 2 episodes on Gymnasium's environment, "
        r"not solved",
        lines[-3],
    )
    assert lines[-2].split() == [
        "run/",
        "learning_curve.png",
        "metrics.csv",
        "checkpoint.pt",
        "summary.json",
    ]
    assert lines[-1] == "again: ppo-fast eval run"
    config = ppo_fast.load(tmp_path / "run").config
    expected = TrainConfig.preset(
        ENV,
        total_steps=512,
        num_envs=8,
        num_steps=64,
        num_epochs=1,
        eval_episodes=2,
        anneal_lr=False,
        hidden_sizes=(8,),
    )
    assert dataclasses.replace(config, out=None) == expected

    evaluations = [
        run("-m", "ppo_fast.cli", "eval", "run", "--episodes", "2", *options, cwd=tmp_path)
        for options in ([], ["--stochastic"])
    ]
    for process in evaluations:
        assert (process.returncode, process.stderr) == (0, "")
        assert "over 2 episodes" in process.stdout
    # The same seeds as in training, so the same greedy episodes.
    assert evaluations[0].stdout.strip() == lines[-3]
    assert evaluations[1].stdout != evaluations[0].stdout


def test_eval_repeats(call, trained):
    outputs = {call("eval", trained, "--episodes", 3, "--stochastic")[1] for _ in range(2)}
    assert len(outputs) == 1
    assert call("eval", trained, "--episodes", 3, "--seed", 7)[1] not in outputs


# Missing packages


# As if the packages {missing} were not installed: nothing finds them.
WITHOUT = """
import sys, types

def find_spec(name, path=None, target=None):
    if name.partition(".")[0] in {missing}:
        raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, types.SimpleNamespace(find_spec=find_spec))
"""
MAIN = "from ppo_fast.cli import main\nsys.exit(main(sys.argv[1:]))"


def run_without(packages, *arguments, **settings):
    """`ppo-fast ...` in an interpreter that does not find some packages."""
    return run("-c", WITHOUT.format(missing=packages) + MAIN, *arguments, **settings)


def assert_install_hint(process, package, extra="train"):
    assert process.returncode == 1, process
    assert process.stderr.count("\n") == 1, process.stderr
    assert package in process.stderr
    assert f'pip install "ppo-fast[{extra}]"' in process.stderr


@pytest.mark.parametrize("package", ["torch", "tyro", "tensorboard", "matplotlib"])
def test_train_without_a_package(package, tmp_path):
    process = run_without([package], "train", ENV, *QUICK, cwd=tmp_path)
    assert_install_hint(process, package)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("package", ["torch", "tyro"])
@pytest.mark.parametrize(
    "command", ["eval", "train --resume", "bench train", "bench presets", "ladder CartPole-v1"]
)
def test_other_commands_without_a_package(package, command, trained, tmp_path):
    folder = [str(trained)] if command in ("eval", "train --resume") else []
    process = run_without([package], *command.split(), *folder, cwd=tmp_path)
    assert_install_hint(process, package)


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_train_in_a_terminal_without_rich(tmp_path):
    import pty

    # Only a terminal gets the progress bar.
    ours, theirs = pty.openpty()
    try:
        code = WITHOUT.format(missing=["rich"]) + MAIN
        process = subprocess.run(
            [sys.executable, "-c", code, "train", ENV, *QUICK],
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            cwd=tmp_path,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert_install_hint(process, "rich")
    assert os.listdir(tmp_path) == []


def test_video_without_its_packages(call, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "moviepy", None)
    status, _, error = call("eval", trained, "--video")
    assert status == 1
    assert error.count("\n") == 1
    assert 'pip install "ppo-fast[video]"' in error
    assert not (trained / "videos").exists()


def test_info_needs_no_extra():
    process = run_without(["torch", "tyro", "rich", "tensorboard", "matplotlib"], "info")
    assert (process.returncode, process.stderr) == (0, "")
    assert f"version    {ppo_fast.__version__}\n" in process.stdout


def test_train_in_a_program_without_torch(tmp_path):
    code = WITHOUT.format(missing=["torch"]) + (
        "import ppo_fast\n"
        "try:\n"
        "    ppo_fast.train(ppo_fast.TrainConfig('CartPole-v1'))\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    process = run("-c", code, cwd=tmp_path)
    assert process.stdout == 'torch is not installed: pip install "ppo-fast[train]"\n', process


@pytest.mark.skipif(
    find_spec("moviepy") is None or find_spec("pygame") is None, reason="needs the extra video"
)
def test_eval_writes_a_video(tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "ppo_fast.cli", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "SDL_VIDEODRIVER": "dummy"},
        )

    run("train", ENV, "--total-steps", "2048", "--eval-episodes", "0", "--out", "run")
    for k in range(2):  # the second one takes another name
        result = run("eval", "run", "--episodes", "2", "--video")
        (video,) = (tmp_path / "run" / "videos").glob(f"eval-{k}-*.mp4")
        assert f"video: run/videos/{video.name}" in result.stdout
        assert "pygame" not in result.stdout
        assert video.read_bytes()[4:8] == b"ftyp"

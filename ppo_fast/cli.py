"""The `ppo-fast` command: train, eval, ladder, bench, info.

Errors are one line on standard error; exit status 2 for wrong usage, 1 for other errors, 130 after
Ctrl-C.
"""

import ast
import contextlib
import dataclasses
import io
import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from ppo_fast.config import DEVICE_RULE, TrainConfig, is_device
from ppo_fast.extras import require, require_train

_OVERVIEW = """\
usage: ppo-fast COMMAND ...

  train ENV           train an agent, e.g. ppo-fast train CartPole-v1
  train --resume RUN  go on with a run that was stopped, or shall be longer
  eval RUN            play episodes of a trained agent on Gymnasium's own environment
  ladder ENV          train every step from policy gradient to PPO2, and compare them
  bench [NAME]        measure throughput against what else is installed
  info                version, compiler, instruction set, CUDA, threads

ppo-fast COMMAND --help lists the options of a command."""


# What other libraries call options of ours, where a likeness of names finds another or none.
_OTHER_NAMES = {
    "--lr": "--learning-rate",
    "--clip-range-vf": "--clip-range-values",
    "--clip-vloss": "--clip-range-values",
    "--ent-coef": "--entropy-coef",
    "--vf-coef": "--value-coef",
    "--n-steps": "--num-steps",
    "--n-epochs": "--num-epochs",
    "--batch-size": "--minibatch-size",
}


# Options with a choice of this name; others are numbers that may be absent.
_LOWER_NONE = frozenset(
    f"--{name.replace('_', '-')}"
    for name, kind in get_type_hints(TrainConfig).items()
    if "none" in get_args(kind)
)


class UsageError(Exception):
    """Wrong arguments: exit status 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _main(args)
    finally:
        lost = _leave_output()
    if lost is None or args[:1] == ["train"]:  # whose folder has everything
        return status
    return _fail(f"the output was lost: {lost}", 1, *args[:1])


def _main(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(_OVERVIEW)
        return 0 if args else 2
    if args[0] == "--version":
        print(metadata.version("ppo-fast"))
        return 0
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "eval": _eval,
        "ladder": _ladder,
        "bench": _bench,
        "info": _info,
    }
    command = commands.get(args[0])
    if command is None:
        return _fail(f"unknown command {args[0]!r}; there are {', '.join(commands)}", 2)
    if args[0] in ("train", "eval", "ladder"):
        _see_own_modules()
    try:
        return command(_spelled([_dashed(arg) for arg in args[1:]]))
    except UsageError as error:
        return _fail(str(error), 2, args[0])
    except (ValueError, ArithmeticError, OSError, RuntimeError, ImportError, MemoryError) as error:
        if getattr(error, "__notes__", None):  # of an environment, whose author has to find it
            raise
        from ppo_fast.envs import BuildError

        if isinstance(error, BuildError):  # the compiler's lines point at each other
            print(f"ppo-fast {args[0]}: {error}", file=sys.stderr)
            return 1
        return _fail(str(error) or type(error).__name__, 1, args[0])
    except KeyboardInterrupt as error:
        return _fail(str(error) or "stopped", 130, args[0])


def _see_own_modules() -> None:
    """Let `module:id` find a module of the current folder, as `python -m ppo_fast` does."""
    if not sys.flags.safe_path and "" not in sys.path:
        sys.path.append("")


def _leave_output() -> OSError | None:
    """Spare the user what Python says at its end of a closed pipe; gives another error."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return None if isinstance(error, BrokenPipeError) else error
    return None


def _train(args: list[str]) -> int:
    if any(arg.split("=")[0] == "--resume" for arg in args):
        try:
            resume: _ResumeOptions = _parse(
                _ResumeOptions,
                args,
                "train",
                description="Go on with a run that was stopped, or let one have more steps.",
            )
        except UsageError as error:
            if not str(error).startswith("Unrecognized"):
                raise
            raise UsageError(
                f"{error}; --resume RUN takes no environment and no other option but --engine, "
                "--device and --total-steps"
            ) from None
        if resume.resume is None:
            raise UsageError("--resume needs the folder of a run")
        return _report(**vars(resume))
    if sum(arg.partition("=")[0] == "--env-kwargs" for arg in args) > 1:
        raise UsageError("give --env-kwargs once, with each NAME=VALUE behind it")
    env_id = _value_of("--env-id", args)
    if args and not args[0].startswith("-"):
        if env_id is not None:
            raise UsageError(f"give one environment, not both {args[0]} and --env-id {env_id}")
        env_id, *args = args
    wants_help = "-h" in args or "--help" in args
    if env_id is None and not wants_help:
        raise UsageError("give an environment first, e.g. ppo-fast train CartPole-v1")
    from ppo_fast.envs import require_known

    with _usage_errors():
        if env_id is not None and not wants_help:
            require_known(env_id)
        algorithm = _value_of("--algorithm", args) or "ppo-clip"
        default = TrainConfig.preset(env_id or "", algorithm=algorithm)
    config = _parse(
        TrainConfig,
        args,
        "train ENV",
        default=default,
        description="Train an agent. Defaults are the preset of the environment, where it has one. "
        "Go on with a stopped run by: ppo-fast train --resume RUN",
    )
    return _report(config=config)


@dataclasses.dataclass(frozen=True)
class _ResumeOptions:
    resume: Path | None = None
    """Folder of the run, whose own settings hold."""
    engine: Literal["auto", "native", "torch"] | None = None
    """Engine to go on with; None for the run's own."""
    device: str | None = None
    """Device to go on with, cpu or cuda; None for the run's own."""
    total_steps: int | None = None
    """How many steps the run shall have in all; None for as many as before."""

    def __post_init__(self) -> None:
        _check_at_least_1(self, "total_steps")
        if self.device is not None and not is_device(self.device):
            raise ValueError(f"--device {DEVICE_RULE}, got {self.device!r}")


def _report(
    config: TrainConfig | None = None,
    resume: Path | None = None,
    engine: Literal["auto", "native", "torch"] | None = None,
    device: str | None = None,
    total_steps: int | None = None,
) -> int:
    """Train and say what came of it."""
    from ppo_fast.training import train
    from ppo_fast.training.output import say, shell_word

    result = train(
        config,
        resume=resume,
        engine=engine,
        device=device,
        total_steps=total_steps,
        progress=True,
    )
    seconds = result.metrics["seconds"][-1]
    steps = result.metrics["steps"][-1]
    say(f"trained {steps:,.0f} steps in {seconds:.1f} s ({steps / seconds:,.0f} steps/s)")
    if result.evaluation is not None:
        say(_verdict(result.evaluation, result.config.env_id))
    say(f"{result.out}/  learning_curve.png  metrics.csv  checkpoint.pt  summary.json")
    say(f"again: ppo-fast eval {shell_word(result.out)}")
    return 0


@dataclasses.dataclass(frozen=True)
class _EvalOptions:
    run: Path
    """Folder of a training run."""
    episodes: int = 100
    """How many episodes to play."""
    seed: int = 0
    """Chooses the initial states."""
    best: bool = False
    """Play the policy that scored best while a run with --eval-every went on, not the last one."""
    stochastic: bool = False
    """Draw actions from the policy instead of taking the most probable."""
    video: bool = False
    """Write the first episode as an mp4 into the run's folder."""

    def __post_init__(self) -> None:
        _check_at_least_1(self, "episodes")
        if self.seed < 0:
            raise ValueError(f"--seed must not be negative, got {self.seed}")


def _eval(args: list[str]) -> int:
    options: _EvalOptions = _parse(
        _EvalOptions,
        args,
        "eval",
        description="Play episodes of a trained agent on Gymnasium's own environment.",
    )
    if options.video:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # else it greets on our output
        for module in ("moviepy", "pygame"):
            require(module, "video")
    from ppo_fast.training import evaluate, load

    policy = load(options.run, best=options.best)
    videos = options.run / "videos"
    evaluation = evaluate(
        policy,
        episodes=options.episodes,
        seed=options.seed,
        deterministic=not options.stochastic,
        video_folder=videos if options.video else None,
    )
    print(_verdict(evaluation, policy.config.env_id))
    if options.video:
        print(f"video: {max(videos.glob('*.mp4'), key=lambda path: path.stat().st_mtime)}")
    return 0


@dataclasses.dataclass(frozen=True)
class _LadderOptions:
    rungs: str | None = None
    """Which, with commas between them; all by default: policy-gradient, baseline, credit, discount,
    critic, importance, trpo, kl-penalty, clip."""
    seeds: int = 3
    """How many seeds, from 1 on."""
    total_steps: int | None = None
    """Environment steps of each run; None for those of ppo-clip's preset. No run stops early."""
    jobs: int | None = None
    """Runs at a time, each in a process of its own; None for one per processor."""
    out: Path | None = None
    """Folder, of which the same command goes on with what is there; None for runs/ladder-<env>."""

    def __post_init__(self) -> None:
        _check_at_least_1(self, "seeds", "total_steps", "jobs")


def _ladder(args: list[str]) -> int:
    env_id = None
    if args and not args[0].startswith("-"):
        env_id, *args = args
    options: _LadderOptions = _parse(
        _LadderOptions,
        args,
        "ladder ENV",
        description="Train every rung of the ladder from policy gradient to PPO2 with the same "
        "seeds and steps; leave ladder.png, ladder.md, ladder.csv and the runs.",
    )
    if env_id is None:
        raise UsageError("give an environment first, e.g. ppo-fast ladder CartPole-v1")
    require_train()
    from ppo_fast.envs import require_known
    from ppo_fast.training.ladder import ladder
    from ppo_fast.training.rungs import find_rungs

    rungs = None if options.rungs is None else options.rungs.replace(",", " ").split()
    with _usage_errors():
        require_known(env_id)
        find_rungs(rungs)
    result = ladder(
        env_id,
        rungs=rungs,
        seeds=options.seeds,
        total_steps=options.total_steps,
        jobs=options.jobs,
        out=options.out,
        progress=True,
    )
    if result.table is not None:
        _print_markdown(result.table)
        print(f"{result.out}/  ladder.png  ladder.md  ladder.csv")
    return _report_failures(result.failures, "ladder")


def _report_failures(failures: dict[str, str], command: str) -> int:
    """A line of errors per run that failed."""
    for name, error in failures.items():
        _fail(f"{name} failed: {error}", 1, command)
    return 1 if failures else 0


def _print_markdown(text: str) -> None:
    """Markdown, drawn as wide as a terminal is; as it stands elsewhere."""
    if sys.stdout.isatty():
        require("rich.console").Console().print(require("rich.markdown").Markdown(text))
    else:
        print(text)


def _check_at_least_1(options: Any, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")


@dataclasses.dataclass(frozen=True)
class _BenchOptions:
    name: str = "all"
    """What to measure: advantage, envs, surrogate, learner, train or all; train and presets have
    options of their own."""
    seconds: float = 1.0
    """How long to measure each entry of advantage, envs, surrogate and learner; train takes whole
    runs."""
    out: Path | None = None
    """Where to write the results of one benchmark, as .json and .png; None for nowhere."""

    def __post_init__(self) -> None:
        from ppo_fast.bench import BENCHMARKS

        if self.name != "all" and self.name not in BENCHMARKS:
            known = ", ".join([*BENCHMARKS, "presets"])
            raise ValueError(f"unknown benchmark {self.name!r}; there are {known} and all")
        if not self.seconds > 0:
            raise ValueError(f"--seconds must be positive, got {self.seconds}")
        if self.name == "all" and self.out is not None:
            raise ValueError("--out is for one benchmark; give its name")


@dataclasses.dataclass(frozen=True)
class _PresetsOptions:
    only: str | None = None
    """One environment; None for all that have a preset."""
    algorithm: str | None = None
    """One algorithm; None for all that have a preset."""
    seeds: int = 5
    """How many seeds, from 1 on."""
    jobs: int | None = None
    """Runs at a time, each in a process of its own; None for one per processor."""
    runs: Path = Path("runs/presets")
    """Folder of the runs, of which the same command goes on with what is there."""
    out: Path | None = None
    """Where to write the scores, as .json; None for nowhere."""
    document: Path | None = None
    """Markdown file whose table of scores is written anew, e.g. docs/results.md; None for none."""

    def __post_init__(self) -> None:
        _check_at_least_1(self, "seeds", "jobs")


def _bench_presets(args: list[str]) -> int:
    options: _PresetsOptions = _parse(
        _PresetsOptions,
        args,
        "bench presets",
        description="Train every preset with several seeds and evaluate it greedily on "
        "Gymnasium's own environment.",
    )
    require_train()
    from ppo_fast.bench.presets import bench_presets, choose_presets

    with _usage_errors():
        choose_presets(options.only, options.algorithm)
    failures = bench_presets(**vars(options))
    return _report_failures(failures, "bench presets")


@dataclasses.dataclass(frozen=True)
class _BenchTrainOptions:
    seeds: int = 1
    """How many seeds, from 1 on; 5 for a claim."""
    total_steps: int = 100_000
    """Steps of CartPole-v1, rounded up to whole rollouts."""
    halfcheetah_steps: int = 20_480
    """Steps of HalfCheetah-v5, rounded up to whole rollouts; 0 leaves it out."""
    preset_seeds: int = 5
    """With how many seeds to train CartPole-v1's preset afterwards; 0 leaves it out."""
    out: Path | None = None
    """Where to write rates and returns, as .json; None for nowhere."""

    def __post_init__(self) -> None:
        _check_at_least_1(self, "seeds", "total_steps")
        for name in ("halfcheetah_steps", "preset_seeds"):
            if getattr(self, name) < 0:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must not be negative, got {getattr(self, name)}")


def _bench_train(args: list[str]) -> int:
    options: _BenchTrainOptions = _parse(
        _BenchTrainOptions,
        args,
        "bench train",
        description="Train side by side with stable-baselines3 and a CleanRL-style loop, with "
        "equal hyperparameters.",
    )
    from ppo_fast.bench import BENCHMARKS

    BENCHMARKS["train"](**vars(options))
    return 0


def _bench(args: list[str]) -> int:
    if args[:1] == ["presets"]:
        return _bench_presets(args[1:])
    if args[:1] == ["train"] and _value_of("--name", args) is None:
        return _bench_train(args[1:])
    # The name is given as in `ppo-fast bench envs`; tyro has no optional positional arguments.
    if args and not args[0].startswith("-"):
        name = _value_of("--name", args)
        if name is not None:
            raise UsageError(f"give one benchmark, not both {args[0]} and --name {name}")
        args = ["--name", *args]
    options: _BenchOptions = _parse(
        _BenchOptions,
        args,
        "bench",
        description="Measure throughput side by side with what else is installed.",
    )
    from ppo_fast.bench import BENCHMARKS

    timed = {"seconds": options.seconds, "out": options.out}
    for name in BENCHMARKS if options.name == "all" else (options.name,):
        settings = vars(_BenchTrainOptions(out=options.out)) if name == "train" else timed
        BENCHMARKS[name](**settings)
    return 0


def _info(args: list[str]) -> int:
    if args in (["-h"], ["--help"]):
        print("usage: ppo-fast info\n\nFacts about this installation, for bug reports.")
        return 0
    if args:
        raise UsageError(f"takes no arguments, got {' '.join(args)}")
    from ppo_fast.info import build_info, cmake_dir, include_dir

    facts: dict[str, Any] = {**build_info()}
    facts["cuda"] = "yes" if facts["cuda"] else f"no ({facts['cuda_off']})"
    built = f"{facts['cuda_toolkit']} for {facts['cuda_architectures']}"
    facts["cuda_built"] = built if facts["cuda_toolkit"] else "no"
    for name in ("cuda_off", "cuda_toolkit", "cuda_architectures"):
        del facts[name]
    if facts["isa"] != facts["best_isa"]:
        facts["isa"] = f"{facts['isa']} (of {facts['best_isa']})"
    del facts["best_isa"]
    facts["python"] = platform.python_version()
    for package in ("numpy", "gymnasium", "torch"):
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            facts[package] = "not installed"
    facts["headers"] = include_dir()
    facts["cmake"] = cmake_dir()
    for name, value in facts.items():
        print(f"{name:<10} {value}")
    return 0


def _parse(options: Any, args: list[str], command: str, **settings: Any) -> Any:
    """tyro.cli with its boxed usage errors turned into a single line."""
    tyro = require("tyro")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), _usage_errors():
            return tyro.cli(
                tyro.conf.PositionalRequiredArgs[options],
                args=args,
                prog=f"ppo-fast {command}",
                registry=_keywords_registry(),
                **settings,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        known = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(options)}
        raise UsageError(_one_line(errors.getvalue(), known)) from None


def _keywords_registry() -> Any:
    """How tyro reads keywords: NAME=VALUE ..."""
    constructors = require("tyro.constructors")
    registry = constructors.ConstructorRegistry()

    def rule(info: Any) -> Any:
        if info.type != dict[str, Any]:
            return None
        return constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar="NAME=VALUE ...",
            instance_from_str=_keywords,
            is_instance=lambda given: isinstance(given, dict),
            str_from_instance=lambda given: [f"{name}={value}" for name, value in given.items()],
        )

    registry.primitive_rule(rule)
    return registry


def _keywords(args: list[str]) -> dict[str, Any]:
    keywords = {}
    for arg in args:
        name, equals, value = arg.partition("=")
        if not (name.isidentifier() and equals):
            raise ValueError(f"{arg!r} is not of the form NAME=VALUE")
        keywords[name] = _keyword_value(value)
    return keywords


def _keyword_value(text: str) -> Any:
    """True, 0.5, [1, 2], None as Python and JSON write them; other words are strings."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@contextlib.contextmanager
def _usage_errors() -> Any:
    """A value that a config refuses was given on the command line."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise UsageError(_plain(str(error))) from None


def _one_line(box: str, known: set[str]) -> str:
    """The message inside a box that tyro draws, and an option that may have been meant.

    `known` are the options that there are. Of a box drawn in another style the whole text is taken.
    """
    sections: list[list[str]] = [[]]
    for line in box.splitlines():
        if not line.startswith(("│", "|")):
            continue
        text = line.strip("│| ")
        if text.startswith(("─", "-----")):
            sections.append([])
        else:
            sections[-1].append(text)
    text = " ".join(sections[0]) or re.sub(r"[\u2500-\u257f]|[|+=-]{3,}", " ", box)
    message = _plain(" ".join(text.split())) or "wrong arguments"
    meant: list[str] = []
    if message.startswith("Unrecognized"):
        given = re.findall(r"--[\w-]+", message)
        meant = [_OTHER_NAMES[name] for name in given if _OTHER_NAMES.get(name) in known]
    for section in sections[1:]:
        if not meant and section and section[0].startswith("Perhaps you meant"):
            meant = [line.split()[0].strip(",") for line in section if line.startswith("--")][:1]
    return f"{message}; did you mean {' and '.join(meant)}?" if meant else message


def _plain(message: str) -> str:
    """A message without the names of our classes, which mean nothing on a command line."""
    return re.sub(r"(Error parsing )?_?(TrainConfig|\w+Options)(, arguments)?: ", "", message)


def _dashed(arg: str) -> str:
    """An option with dashes, where it was given with underscores."""
    name, equals, value = arg.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else arg


def _spelled(args: list[str]) -> list[str]:
    """Values "none" in the case that their option knows them by."""
    result: list[str] = []
    for k, arg in enumerate(args):
        option, equals, value = arg.partition("=")
        if not (equals and option.startswith("--")):
            option, value = args[k - 1] if k > 0 else "", arg
        none = "none" if option in _LOWER_NONE else "None"
        is_none = value.lower() == "none" and option.startswith("--")
        result.append(arg[: len(arg) - len(value)] + none if is_none else arg)
    return result


def _value_of(option: str, args: list[str]) -> str | None:
    """The value of an option that decides about the defaults of the others; the last one holds."""
    value = None
    for arg, following in zip(args, [*args, None][1:], strict=True):
        if arg == option:
            value = following
        elif arg.startswith(f"{option}="):
            value = arg.partition("=")[2]
    return value


def _verdict(evaluation: Any, env_id: str) -> str:
    from ppo_fast.envs.specs import is_header

    verdict = {True: ", solved", False: ", not solved", None: ""}[evaluation.solved]
    where = "" if is_header(env_id) else " on Gymnasium's environment"
    cut = (
        f" ({evaluation.cut} cut after {max(evaluation.lengths):,} steps)" if evaluation.cut else ""
    )
    return (
        f"{env_id}: mean return {evaluation.mean_return:.1f} +- {evaluation.std_return:.1f} over "
        f"{len(evaluation.returns)} episodes{cut}{where}{verdict}"
    )


def _fail(message: str, status: int, command: str = "") -> int:
    name = f"ppo-fast {command}".strip()
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())

"""The package as a whole: a light import, the public names, one version."""

import importlib
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import ppo_fast

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def in_fresh_interpreter(code):
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_import_loads_no_other_package():
    code = "import sys, ppo_fast; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(in_fresh_interpreter(code).split())
    assert "ppo_fast" in loaded
    assert not loaded & {"torch", "gymnasium", "numpy", "tyro", "rich", "matplotlib"}


def test_import_is_quick():
    code = (
        "import time; start = time.perf_counter(); import ppo_fast; "
        "print(time.perf_counter() - start)"
    )
    # The best of several: what else the machine does is not our doing.
    assert min(float(in_fresh_interpreter(code)) for _ in range(5)) < 0.15


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("from ppo_fast import gae, normalize, token_gae, vtrace", {"torch", "gymnasium", "jax"}),
        ("from ppo_fast import ppo_loss, TrainConfig, build_info", {"torch", "gymnasium"}),
        ("from ppo_fast import make_vec", {"torch"}),
        ("import ppo_fast.cli", {"torch", "gymnasium", "numpy", "tyro"}),
    ],
)
def test_names_load_only_what_they_need(code, unwanted):
    loaded = in_fresh_interpreter(f"{code}\nimport sys; print(*sys.modules)").split()
    assert not unwanted & set(loaded)


def test_modules_do_not_take_the_place_of_public_names():
    # Importing a module sets it as an attribute of the package, over a function of its name.
    pytest.importorskip("torch")
    code = (
        "import types, ppo_fast, ppo_fast.cli, ppo_fast.envs, ppo_fast.learners.torch\n"
        "import ppo_fast.training\n"
        "public = {name: getattr(ppo_fast, name) for name in ppo_fast.__all__}\n"
        "print(*(name for name in public if type(public[name]) is types.ModuleType))"
    )
    modules = set(in_fresh_interpreter(code).split())
    assert modules <= set(ppo_fast._MODULES)


@pytest.mark.parametrize("name", ppo_fast.__all__)
def test_public_names_resolve(name):
    if name in ("Policy", "TrainResult", "load", "train", "training"):
        pytest.importorskip("torch")
    value = getattr(ppo_fast, name)
    assert value is getattr(ppo_fast, name)
    if callable(value):
        assert value.__doc__


def test_all_is_sorted_and_complete():
    assert len(set(ppo_fast.__all__)) == len(ppo_fast.__all__)
    assert set(ppo_fast.__all__) == {"__version__", *ppo_fast._HOMES, *ppo_fast._MODULES}


def test_dir_lists_the_public_names():
    assert dir(ppo_fast) == sorted(ppo_fast.__all__)


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="module 'ppo_fast' has no attribute 'nonsense'"):
        ppo_fast.nonsense  # noqa: B018 - the access is the test
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        exec("from ppo_fast import nonsense")
    assert not hasattr(ppo_fast, "__wrapped__")


def test_every_module_says_what_it_is():
    for path in (ROOT / "ppo_fast").rglob("*.py"):
        assert path.read_text(encoding="utf-8").startswith('"""'), path


def test_versions_are_one():
    assert ppo_fast.__version__ == PROJECT["version"]
    assert ppo_fast.__version__ == ppo_fast.build_info()["version"]
    assert ppo_fast.__version__ == metadata.version("ppo-fast")


def extra(name):
    """Packages of an extra, with those of the extras that it takes in."""
    packages = {}
    for requirement in PROJECT["optional-dependencies"][name]:
        package, bound = re.fullmatch(r"([\w\[\],-]+)(.*)", requirement).groups()
        ours = re.fullmatch(r"ppo-fast\[(.+)\]", package)
        for other in ours[1].split(",") if ours else []:
            packages |= extra(other)
        if not ours:
            packages[package] = bound
    return packages


def test_an_extra_has_the_modules_that_its_name_is_told_for():
    # `require` tells people to install an extra, which must then bring the module.
    calls = set()
    for path in (ROOT / "ppo_fast").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        calls |= set(re.findall(r'\brequire\("(\w+)[\w.]*"(?:, "(\w+)")?\)', text))
    assert ("torch", "") in calls
    for module, name in calls:
        assert module.replace("_", "-") in extra(name or "train"), (module, name)
    assert "moviepy" in extra("video")
    assert "gymnasium[classic-control]" in extra("video")  # which has pygame


def test_a_benchmark_runs_with_its_extra_alone():
    # Its command is parsed, and its runs are trained, with the packages of `train`.
    assert extra("train").keys() <= extra("bench").keys()


def test_a_package_has_the_same_bound_in_all_extras():
    bounds = {}
    for name in PROJECT["optional-dependencies"]:
        for package, bound in extra(name).items():
            assert bounds.setdefault(package, bound) == bound, package


def test_who_lacks_a_module_is_told_the_extra():
    extras_module = importlib.import_module("ppo_fast.extras")
    with pytest.raises(
        ModuleNotFoundError, match=r'^nowhere is not installed: pip install "ppo-fast\[video\]"$'
    ):
        extras_module.require("nowhere.at.all", "video")

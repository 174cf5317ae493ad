"""Patches of other libraries: explicit, reversible, and saying what was done."""

import logging
import subprocess
import sys
import types

import pytest

from ppo_fast import integrations
from ppo_fast.integrations import Patch, Target


def double(x):
    return 2 * x


def triple(x):
    return 3 * x


class Methods:
    factor = 10

    def scaled(self, x):
        return self.factor * x

    @staticmethod
    def plain(x):
        return x

    @classmethod
    def of_class(cls, x):
        return cls.factor + x


class Inheriting(Methods):
    pass


def our_scaled(self, x):
    return -self.factor * x


@pytest.fixture
def library():
    module = types.ModuleType("some_library")
    module.twice = lambda x: x + x
    return module


@pytest.fixture
def known(monkeypatch, library):
    """A library that `patch` finds by its name, with one target."""
    support = types.ModuleType("ppo_fast.integrations.some_library")
    support.targets = lambda: [Target(library, "twice", triple)]
    monkeypatch.setitem(sys.modules, support.__name__, support)
    monkeypatch.setattr(integrations, "LIBRARIES", (*integrations.LIBRARIES, "some_library"))
    return support


def test_replaces_and_puts_back(library):
    original = library.twice
    patch = Patch("some", [Target(library, "twice", triple)])
    assert library.twice is triple
    patch.undo()
    assert library.twice is original
    patch.undo()
    assert library.twice is original


def test_can_be_applied_again(library):
    for _ in range(2):
        with Patch("some", [Target(library, "twice", triple)]):
            assert library.twice(2) == 6
        assert library.twice(2) == 4


def test_context_manager_puts_back_after_an_error(library):
    with pytest.raises(KeyError, match="inside"), Patch("some", [Target(library, "twice", triple)]):
        raise KeyError("inside")
    assert library.twice(2) == 4


def test_undo_inside_the_context(library):
    with Patch("some", [Target(library, "twice", triple)]) as patch:
        patch.undo()
        assert library.twice(2) == 4
    assert library.twice(2) == 4


def test_methods_of_every_kind():
    before = dict(vars(Methods))
    targets = [
        Target(Methods, "scaled", our_scaled),
        Target(Methods, "plain", staticmethod(double)),
        Target(Methods, "of_class", classmethod(lambda cls, x: cls.factor - x)),
    ]
    with Patch("some", targets):
        assert Inheriting().scaled(2) == -20
        assert (Methods.plain(2), Methods().plain(2)) == (4, 4)
        assert Methods.of_class(2) == 8
    # The descriptors themselves, not what they come to on access.
    assert dict(vars(Methods)) == before
    assert Inheriting().scaled(2) == 20
    assert (Methods.plain(2), Methods().plain(2), Methods.of_class(2)) == (2, 2, 12)


def test_says_what_was_done(library, caplog):
    with caplog.at_level(logging.INFO, logger="ppo_fast"):
        patch = Patch(
            "some", [Target(library, "twice", double), Target(Methods, "scaled", our_scaled)]
        )
        lines = [
            f"  some_library.twice -> {__name__}.double",
            f"  {__name__}.Methods.scaled -> {__name__}.our_scaled",
        ]
        assert str(patch).splitlines() == ["some: patched", *lines]
        assert repr(patch) == str(patch)
        patch.undo()
        assert str(patch).splitlines() == ["some: not patched", *lines]
    assert caplog.messages == ["\n".join(["some: patched", *lines]), "some: undone"]


def test_refuses_a_second_patch(library):
    with Patch("some", [Target(library, "twice", double)]) as patch:
        with pytest.raises(
            ValueError,
            match=r"^patch: 'some' is patched already; call undo\(\) of that patch first$",
        ):
            Patch("some", [Target(library, "twice", triple)])
        assert library.twice is double
        assert str(patch).startswith("some: patched")
    assert library.twice(2) == 4


def test_refuses_to_undo_what_somebody_else_replaced(library):
    original = library.twice
    patch = Patch("some", [Target(Methods, "scaled", our_scaled), Target(library, "twice", double)])
    library.twice = triple
    for _ in range(2):
        with pytest.raises(
            RuntimeError,
            match=r"^patch: some_library.twice -> .*double has been replaced again since; "
            "undo that replacement first$",
        ):
            patch.undo()
        assert library.twice is triple
        assert Methods.scaled is our_scaled
        assert str(patch).startswith("some: patched")
    library.twice = double
    patch.undo()
    assert library.twice is original
    assert Methods.scaled is not our_scaled


def test_refuses_to_undo_what_somebody_else_removed(library):
    patch = Patch("some", [Target(library, "twice", double)])
    del library.twice
    with pytest.raises(RuntimeError, match="has been replaced again since"):
        patch.undo()
    library.twice = double
    patch.undo()


def test_patches_on_top_of_each_other_come_off_in_reverse(library):
    original = library.twice
    lower = Patch("lower", [Target(library, "twice", double)])
    upper = Patch("upper", [Target(library, "twice", triple)])
    with pytest.raises(RuntimeError, match="undo that replacement first"):
        lower.undo()
    upper.undo()
    assert library.twice is double
    lower.undo()
    assert library.twice is original


def test_an_attribute_that_the_library_lacks(library):
    original = library.twice
    message = "; ppo_fast does not know this version of the library$"
    with pytest.raises(AttributeError, match=r"^patch: there is no some_library.renamed" + message):
        Patch("some", [Target(library, "twice", double), Target(library, "renamed", double)])
    assert library.twice is original
    # Replacing an inherited method would leave its other heirs as they are.
    with pytest.raises(AttributeError, match=r"^patch: there is no .*Inheriting.scaled" + message):
        Patch("some", [Target(Inheriting, "scaled", our_scaled)])
    Patch("some", [Target(library, "twice", double)]).undo()


def test_patch_by_name(known, library):
    with integrations.patch("some_library") as patch:
        assert library.twice is triple
        assert patch.targets == [Target(library, "twice", triple)]
        with pytest.raises(ValueError, match=r"^patch: 'some_library' is patched already; "):
            integrations.patch("some_library")
    assert library.twice(2) == 4


def test_nothing_to_patch(known):
    del known.targets
    known.HOW = "pass it a class"
    with pytest.raises(
        ValueError, match=r"^patch: 'some_library' has nothing to patch; pass it a class$"
    ):
        integrations.patch("some_library")


def test_unknown_library():
    with pytest.raises(
        ValueError, match=r"^patch: unknown library 'nonsense'; there are nemo_rl, .*, verl$"
    ):
        integrations.patch("nonsense")
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        integrations.nonsense  # noqa: B018 - the access is the test


def test_targets_that_need_a_missing_module(known):
    def targets():
        import module_that_nobody_has.part  # noqa: F401

    known.targets = targets
    with pytest.raises(
        ModuleNotFoundError,
        match=r"^patch: 'some_library' needs what is not installed: "
        "No module named 'module_that_nobody_has'$",
    ) as caught:
        integrations.patch("some_library")
    assert caught.value.name == "module_that_nobody_has"


@pytest.mark.parametrize(
    ("library", "module", "message"),
    [
        ("sb3", "stable_baselines3", "No module named 'stable_baselines3'"),
        ("sb3_contrib", "sb3_contrib", "No module named 'sb3_contrib'"),
        ("tianshou", "tianshou", "there is no module tianshou: pip install tianshou"),
    ],
)
def test_library_that_is_not_installed(library, module, message):
    code = f"""
import sys

class NotInstalled:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NotInstalled)
from ppo_fast import integrations
try:
    integrations.patch({library!r})
except ModuleNotFoundError as error:
    print(error)
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert process.stdout == (f"patch: {library!r} needs what is not installed: {message}\n"), (
        process.stderr
    )


def test_import_touches_no_library():
    code = "import ppo_fast.integrations, sys; print(*sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = {name.partition(".")[0] for name in process.stdout.split()}
    assert not loaded & {"numpy", "torch", "stable_baselines3", "tianshou"}

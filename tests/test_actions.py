"""ActionLayout: every kind of space, as policies store actions and as environments take them."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from ppo_fast.actions import ActionLayout

SPACES = {
    "discrete": spaces.Discrete(4),
    "discrete from 3": spaces.Discrete(4, start=3),
    "discrete from -2": spaces.Discrete(5, start=-2),
    "discrete of one": spaces.Discrete(1),
    "multi": spaces.MultiDiscrete([3, 2, 5]),
    "multi from": spaces.MultiDiscrete([3, 2], start=[1, -4]),
    "multi of one": spaces.MultiDiscrete([7]),
    "multi int32": spaces.MultiDiscrete([3, 2], dtype=np.int32),
    "binary": spaces.MultiBinary(6),
    "binary as a list": spaces.MultiBinary([3]),
    "box": spaces.Box(-2, 2, (3,), np.float32),
    "box float64": spaces.Box(-2, 2, (3,), np.float64),
    "box uneven": spaces.Box(np.float32([-1, 0]), np.float32([3, 0.5])),
    "box with axes": spaces.Box(-1, 1, (2, 3), np.float32),
    "box without axes": spaces.Box(-1, 1, (), np.float32),
    "box without bounds": spaces.Box(-np.inf, np.inf, (2,), np.float32),
    "box with a bound": spaces.Box(0, np.inf, (2,), np.float64),
}


CASES = [
    (name, squashed)
    for name, space in SPACES.items()
    for squashed in (
        [False, True] if isinstance(space, spaces.Box) and space.is_bounded() else [False]
    )
]


def layout_of(name, squashed=False):
    return ActionLayout.of("Any-v0", SPACES[name], squashed=squashed)


def stored(layout, count, seed=0):
    """Actions as a policy gives them."""
    rng = np.random.default_rng(seed)
    if layout.kind == "continuous":
        return (3 * rng.normal(size=(count, *layout.shape))).astype(np.float32)
    actions = rng.integers(0, layout.sizes, (count, len(layout.sizes)))
    return actions.reshape(count, *layout.shape)


@pytest.mark.parametrize(
    ("name", "kind", "shape", "sizes"),
    [
        ("discrete", "categorical", (), (4,)),
        ("discrete from 3", "categorical", (), (4,)),
        ("multi", "multi_categorical", (3,), (3, 2, 5)),
        ("binary", "bernoulli", (6,), (2,) * 6),
        ("binary as a list", "bernoulli", (3,), (2,) * 3),
        ("box", "continuous", (3,), ()),
        ("box with axes", "continuous", (6,), ()),
        ("box without axes", "continuous", (1,), ()),
    ],
)
def test_kinds(name, kind, shape, sizes):
    layout = layout_of(name)
    assert (layout.kind, layout.shape, layout.sizes) == (kind, shape, sizes)
    assert layout.dtype == (np.float32 if kind == "continuous" else np.int64)
    assert all(type(size) is int for size in layout.sizes)
    assert not layout.squashed


@pytest.mark.parametrize(("name", "squashed"), CASES)
def test_actions_lie_in_the_space(name, squashed):
    layout = layout_of(name, squashed)
    actions = stored(layout, 200)
    before = actions.copy()
    given = layout.to_env(actions)
    assert len(given) == 200
    for action in given:
        assert SPACES[name].contains(np.asarray(action)), action
    np.testing.assert_array_equal(actions, before)


@pytest.mark.parametrize(("name", "squashed"), CASES)
def test_an_environment_takes_its_own_dtype(name, squashed):
    layout = layout_of(name, squashed)
    given = layout.to_env(stored(layout, 5))
    assert given.shape == (5, *SPACES[name].shape)
    if layout.kind in ("continuous", "bernoulli"):
        assert given.dtype == SPACES[name].dtype


@pytest.mark.parametrize(("name", "squashed"), CASES)
def test_json_round_trip(name, squashed):
    layout = layout_of(name, squashed)
    again = ActionLayout.from_json(json.loads(json.dumps(layout.to_json())))
    for field in ("kind", "shape", "sizes", "squashed", "dtype"):
        assert getattr(again, field) == getattr(layout, field), field
    actions = stored(layout, 50)
    ours, theirs = layout.to_env(actions), again.to_env(actions)
    assert theirs.dtype == ours.dtype
    assert theirs.tobytes() == ours.tobytes()


def test_starts_by_hand():
    np.testing.assert_array_equal(layout_of("discrete from 3").to_env(np.arange(4)), [3, 4, 5, 6])
    np.testing.assert_array_equal(
        layout_of("multi from").to_env(np.array([[0, 0], [2, 1]])), [[1, -4], [3, -3]]
    )


@pytest.mark.parametrize("name", ["discrete", "multi"])
def test_nothing_is_copied_where_both_agree(name):
    layout = layout_of(name)
    actions = stored(layout, 3)
    assert layout.to_env(actions) is actions


def test_gaussian_actions_are_cut_at_the_bounds():
    layout = layout_of("box uneven")
    given = layout.to_env(np.array([[-5, -5], [1, 0.25], [9, 9]], np.float32))
    np.testing.assert_array_equal(given, np.float32([[-1, 0], [1, 0.25], [3, 0.5]]))


def test_actions_without_bounds_stay():
    actions = np.array([[-1e30, 3]], np.float32)
    np.testing.assert_array_equal(layout_of("box without bounds").to_env(actions), actions)
    np.testing.assert_array_equal(layout_of("box with a bound").to_env(actions), [[0, 3]])


def test_squashed_actions_are_scaled_to_the_bounds():
    # [-1, 3] has the middle 1 and reaches 2; [0, 0.5] the middle and reach 0.25.
    layout = layout_of("box uneven", squashed=True)
    u = np.array([[0, 0], [0.5, -0.5], [50, -50]], np.float32)
    t = np.tanh(0.5)
    expected = [[1, 0.25], [1 + 2 * t, 0.25 - 0.25 * t], [3, 0]]
    np.testing.assert_allclose(layout.to_env(u), expected, rtol=1e-6)


def test_axes_keep_their_order():
    layout = layout_of("box with axes")
    actions = np.linspace(-0.5, 0.5, 12, dtype=np.float32).reshape(2, 6)
    np.testing.assert_array_equal(layout.to_env(actions), actions.reshape(2, 2, 3))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (3,), np.uint8),
        spaces.Box(-3, 3, (3,), np.int64),
        spaces.Box(-1, 1, (3,), np.float16),
        spaces.MultiDiscrete([[2, 3], [4, 5]]),
        spaces.MultiBinary([2, 2]),
        spaces.Tuple([spaces.Discrete(2)]),
        spaces.Dict({"a": spaces.Discrete(2)}),
        spaces.Text(3),
    ],
    ids=str,
)
def test_spaces_that_no_policy_can_act_in(space):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared below
        ActionLayout.of("Some-v3", space)
    assert str(error.value) == (
        f"Some-v3 has actions in {space}; those that can be trained are Discrete, "
        "MultiDiscrete and MultiBinary with one axis, and Box of floats"
    )


@pytest.mark.parametrize("name", ["box without bounds", "box with a bound"])
def test_squashing_needs_bounds(name):
    with pytest.raises(
        ValueError,
        match=r"^Any-v0 has actions without bounds, Box\(.*\); squashed actions need them: "
        r"choose continuous=gaussian$",
    ):
        layout_of(name, squashed=True)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "MountainCarContinuous-v0"])
def test_real_environments(env_id):
    env = gymnasium.make(env_id)
    for squashed in (False, True):
        layout = ActionLayout.of(env_id, env.action_space, squashed=squashed)
        for action in layout.to_env(stored(layout, 20)):
            assert env.action_space.contains(action)
    env.close()

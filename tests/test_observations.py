"""Observations of every space as rows of numbers; keywords of environments."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate

from ppo_fast.observations import ObsLayout
from ppo_fast.spaces import from_json, to_json

SPACES = {
    "box": spaces.Box(-1, 1, (3,), np.float32),
    "number": spaces.Box(-1, 1, (), np.float64),
    "picture": spaces.Box(0, 255, (2, 3, 3), np.uint8),
    "bounds": spaces.Box(np.array([-1.0, -np.inf]), np.array([np.inf, 2.5]), dtype=np.float64),
    "discrete": spaces.Discrete(5),
    "start": spaces.Discrete(4, start=-2),
    "narrow": spaces.Discrete(4, dtype=np.int32),
    "multi": spaces.MultiDiscrete([2, 4, 3]),
    "starts": spaces.MultiDiscrete([2, 3], start=[5, -1]),
    "grid": spaces.MultiDiscrete([[2, 3], [4, 5]]),
    "binary": spaces.MultiBinary(4),
    "board": spaces.MultiBinary([2, 3]),
    "tuple": spaces.Tuple([spaces.Discrete(32), spaces.Discrete(11), spaces.Discrete(2)]),
    "dict": spaces.Dict(
        {
            "position": spaces.Box(-1, 1, (2,), np.float64),
            "inventory": spaces.Dict({"coins": spaces.Discrete(3), "keys": spaces.MultiBinary(2)}),
            "camera": spaces.Box(0, 255, (2, 2), np.uint8),
            "pair": spaces.Tuple([spaces.Discrete(2), spaces.MultiDiscrete([2, 2])]),
        }
    ),
}
EACH = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


@EACH
def test_rows_are_those_of_gymnasium(space):
    layout = ObsLayout.of("it", space)
    many = batch_space(space, 7)
    many.seed(1)
    batch = many.sample()
    expected = [
        spaces.flatten(space, each).astype(np.float32).reshape(-1) for each in iterate(many, batch)
    ]
    rows = layout.rows(batch, 7)
    assert rows.dtype == np.float32
    assert rows.shape == (7, layout.size)
    np.testing.assert_array_equal(rows, expected)
    for each, row in zip(iterate(many, batch), expected, strict=True):
        np.testing.assert_array_equal(layout.row(each), row[None])
        read, is_single = layout.read(each)
        assert is_single
        np.testing.assert_array_equal(read, row[None])
    read, is_single = layout.read(batch)
    assert not is_single
    np.testing.assert_array_equal(read, expected)


@EACH
def test_the_layout_of_normalised_rows(space):
    layout = ObsLayout.of("it", space)
    normal = layout.normalized(10.0)
    assert normal.size == layout.size
    assert ObsLayout.of("it", normal.space).size == layout.size
    rows = normal.sampled(4)
    assert rows.shape == (4, layout.size)
    assert np.abs(rows).max() <= 10
    if isinstance(space, spaces.Dict):
        assert list(normal.space) == list(space)
    elif isinstance(space, spaces.Box | spaces.MultiBinary):
        assert normal.space == spaces.Box(-10, 10, space.shape, np.float32)
    elif not isinstance(space, spaces.Tuple):
        assert normal.space == spaces.Box(-10, 10, (layout.size,), np.float32)


@EACH
def test_sampled_rows(space):
    layout = ObsLayout.of("it", space)
    state = space.np_random.bit_generator.state
    rows = layout.sampled(3)
    assert (rows.shape, rows.dtype) == ((3, layout.size), np.float32)
    np.testing.assert_array_equal(layout.sampled(3), rows)
    assert space.np_random.bit_generator.state == state


@EACH
def test_a_space_is_the_same_after_json(space):
    described = json.loads(json.dumps(to_json(space)))
    again = from_json(described)
    assert again == space
    assert again.dtype == space.dtype


def test_descriptions_of_before():
    """Of actions, in checkpoints: whole arrays of bounds, and a number of bits."""
    fields = {"low": [-1.0, -2.0], "high": [1.0, 2.0], "dtype": "float32", "squashed": True}
    assert from_json(fields) == spaces.Box(np.float32([-1, -2]), np.float32([1, 2]))
    assert from_json({"binary": 3}) == spaces.MultiBinary(3)


def test_a_description_of_a_picture_is_short():
    assert len(json.dumps(to_json(spaces.Box(0, 255, (210, 160, 3), np.uint8)))) < 100


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(5),
        spaces.Sequence(spaces.Discrete(3)),
        spaces.Dict({"note": spaces.Text(5), "x": spaces.Discrete(2)}),
    ],
    ids=["text", "sequence", "dict"],
)
def test_spaces_that_make_no_rows(space):
    message = "it has observations that cannot be rows: .* is none of Box, Discrete, "
    with pytest.raises(ValueError, match=message):
        ObsLayout.of("it", space)


def test_a_space_without_numbers():
    with pytest.raises(ValueError, match="it has observations without features"):
        ObsLayout.of("it", spaces.Box(0, 1, (3, 0)))


@pytest.mark.parametrize(
    ("space", "obs", "message"),
    [
        ("discrete", 5, r"^obs must be in Discrete\(5\), got 5"),
        ("discrete", -1, r"must be in Discrete\(5\), got -1"),
        ("discrete", [0, 1, 9], r"must be in Discrete\(5\), got 9"),
        ("discrete", [[0, 1]], r"of Discrete\(5\) must have shape \(\), got \(1, 2\)"),
        ("starts", [4, 0], r"must be in MultiDiscrete.*, got 4"),
        ("binary", [0, 1], r"of MultiBinary\(4\) must have shape \(4,\), got \(2,\)"),
        ("tuple", (1, 2), r"must have 3 parts, got \(1, 2\)"),
        ("tuple", (1, 2, 0, 1), r"must have 3 parts, got \(1, 2, 0, 1\)"),
        ("tuple", 3, "must be a tuple .*, got int"),
        # Observations one behind the other are no batch, however many they are.
        ("tuple", [(1, 2, 0), (3, 4, 1), (5, 6, 0)], "must be a tuple .*, got list"),
        ("tuple", np.zeros((3, 3), int), "must be a tuple .*, got ndarray"),
        ("dict", {"position": [0.0, 0.0]}, "must have 'camera', got"),
        ("box", [0.0, 0.0], r"must have shape \(3,\) or \(N, 3\), got \(2,\)"),
    ],
)
def test_wrong_observations(space, obs, message):
    with pytest.raises(ValueError, match=message):
        ObsLayout.of("it", SPACES[space]).read(obs)


def test_environments_may_be_lax():
    """Axes of size 1 of a Box, and a list for a Tuple, in what they give themselves."""
    box = ObsLayout.of("it", SPACES["box"])
    np.testing.assert_array_equal(box.row(np.ones((1, 3))), np.ones((1, 3)))
    np.testing.assert_array_equal(box.rows(np.ones((2, 3, 1)), 2), np.ones((2, 3)))
    one = ObsLayout.of("it", spaces.Box(-1, 1, (1,)))
    assert one.row(0.5).tolist() == [[0.5]]
    pair = ObsLayout.of("it", spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)]))
    assert pair.row([0, 1]).tolist() == [[1, 0, 0, 1]]


def test_a_first_part_without_parts():
    space = spaces.Dict({"a": spaces.Dict({}), "b": spaces.Discrete(2)})
    read, is_single = ObsLayout.of("it", space).read({"a": {}, "b": [1, 0, 1]})
    assert not is_single
    assert read.tolist() == [[0, 1], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (SPACES["picture"], True),
        (spaces.Dict({"x": SPACES["box"], "view": SPACES["picture"]}), True),
        (spaces.Box(-1, 1, (2, 3, 3)), False),
        (spaces.MultiBinary([2, 2, 2]), False),
        (SPACES["dict"], False),
    ],
)
def test_which_are_pictures(space, expected):
    assert ObsLayout.of("it", space).shows_pictures() is expected


def test_parts_of_a_batch_that_disagree_in_number():
    layout = ObsLayout.of("it", SPACES["tuple"])
    with pytest.raises(ValueError, match=r"of Discrete\(11\) must have shape \(2,\), got \(3,\)"):
        layout.read(([1, 2], [1, 2, 3], [0, 1]))


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "Blackjack-v1"])
def test_a_batch_of_gymnasiums_is_read(env_id):
    env = gymnasium.make_vec(env_id, 3, vectorization_mode="sync")
    obs, _ = env.reset(seed=3)
    rows, is_single = ObsLayout.of(env_id, env.single_observation_space).read(obs)
    assert not is_single
    assert rows.sum(axis=1).tolist() == [1 if env_id == "FrozenLake-v1" else 3] * 3
    env.close()

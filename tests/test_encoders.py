"""Encoders: features of observations before the hidden layers (ppo_fast/learners/encoders.py)."""

import copy
import dataclasses
import pickle

import gymnasium
import numpy as np
import pytest
from algorithm_cases import discrete, make_config
from gymnasium import spaces

torch = pytest.importorskip("torch")

import ppo_fast  # noqa: E402 - after the check for torch
from ppo_fast import TrainConfig  # noqa: E402
from ppo_fast.cli import main  # noqa: E402
from ppo_fast.learners import make_learner  # noqa: E402
from ppo_fast.learners.encoders import PictureEncoder, make_encoder  # noqa: E402
from ppo_fast.observations import ObsLayout  # noqa: E402

ROW = spaces.Box(-1, 1, (4,), np.float32)
PICTURE = spaces.Box(0, 255, (36, 40, 2), np.uint8)


def layout_of(space):
    return ObsLayout.of("Any-v0", space)


def encoder_of(name, space, seed=0):
    return make_encoder(name, layout_of(space), torch.Generator().manual_seed(seed))


# Pictures


def test_pictures_by_hand():
    encoder = PictureEncoder(PICTURE)
    with torch.no_grad():
        for layer in encoder.layers:
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.fill_(1 / layer.weight[0].numel())  # means, so that means come out
                layer.bias.zero_()
    # 36 x 40 become 8 x 9 by 8 x 8 every 4, 3 x 3 by 4 x 4 every 2, 1 x 1 by 3 x 3, of 64 channels.
    features = encoder(torch.full((3, 36, 40, 2), 51.0))
    assert features.shape == (3, 64)
    torch.testing.assert_close(features, torch.full((3, 64), 0.2))


@pytest.mark.parametrize(("shape", "expected"), [((84, 84, 4), 3136), ((3, 36, 36), 64)])
def test_features_of_pictures(shape, expected):
    encoder, size = encoder_of("cnn", spaces.Box(0, 255, shape, np.uint8))
    assert size == expected
    assert encoder(torch.zeros(5, int(np.prod(shape)))).shape == (5, expected)


def test_channels_may_come_first_or_last():
    last, _ = encoder_of("cnn", PICTURE)
    first, _ = encoder_of("cnn", spaces.Box(0, 255, (2, 36, 40), np.uint8))
    pictures = torch.from_numpy(PICTURE.sample()[None]).float()
    rows = pictures.flatten(1), pictures.permute(0, 3, 1, 2).flatten(1)
    torch.testing.assert_close(last(rows[0]), first(rows[1]))


def test_floats_are_taken_as_they_are():
    of_bytes, _ = encoder_of("cnn", PICTURE)
    of_floats, _ = encoder_of("cnn", spaces.Box(0, 1, PICTURE.shape, np.float32))
    rows = torch.rand(2, PICTURE.sample().size)
    torch.testing.assert_close(of_bytes(255 * rows), of_floats(rows))


def test_convolutions_start_orthogonal():
    for layer in PictureEncoder(PICTURE).layers:
        if isinstance(layer, torch.nn.Conv2d):
            rows = layer.weight.detach().flatten(1)
            torch.testing.assert_close(rows @ rows.T, 2 * torch.eye(len(rows)), atol=1e-5, rtol=0)
            assert not layer.bias.any()


class Bars(gymnasium.Env):
    """One step: is the bar, somewhere in a noisy picture, upright (1) or does it lie (0)?"""

    observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._picture(), {}

    def _picture(self):
        picture = self.np_random.integers(0, 64, (36, 36), np.uint8)
        self._upright = int(self.np_random.integers(2))
        row, column = self.np_random.integers(0, 24, 2)
        height, width = (12, 3) if self._upright else (3, 12)
        picture[row : row + height, column : column + width] = 255
        return picture[:, :, None]

    def step(self, action):
        reward = float(action == self._upright)
        return self._picture(), reward, True, False, {}


@pytest.fixture
def bars():
    gymnasium.register("tiny/bars-v0", Bars)
    yield "tiny/bars-v0"
    del gymnasium.registry["tiny/bars-v0"]


def test_pictures_are_learned_from(bars, tmp_path, recwarn):
    config = TrainConfig(
        bars,
        encoder="cnn",
        hidden_sizes=(64,),
        activation="relu",
        shared_trunk=True,
        num_envs=8,
        num_steps=16,
        minibatch_size=64,
        total_steps=2560,
        learning_rate=1e-3,
        eval_episodes=100,
        out=tmp_path / "run",
    )
    result = ppo_fast.train(config)
    assert not [str(w.message) for w in recwarn if "pictures" in str(w.message)]
    assert result.evaluation.mean_return > 0.95
    policy = ppo_fast.load(config.out)
    env = Bars()
    picture, _ = env.reset(seed=5)
    assert policy.predict(picture) == result.policy.predict(picture) == env._upright
    assert policy.predict(np.stack([picture] * 3)).shape == (3,)
    # As a torch module for others: rows in, logits and values out.
    logits, values = policy.network()(torch.from_numpy(policy.observations.row(picture)))
    assert int(logits.argmax()) == env._upright
    assert values.shape == (1,)


def test_pictures_without_an_encoder_are_warned_of(bars, tmp_path):
    config = TrainConfig(
        bars,
        num_envs=2,
        num_steps=8,
        minibatch_size=8,
        total_steps=16,
        eval_episodes=0,
        out=tmp_path / "run",
    )
    with pytest.warns(UserWarning, match="shows pictures; .* of 1,296 .*: give it an encoder"):
        ppo_fast.train(config)


# Modules of one's own


def test_observations_come_in_their_own_shape():
    for space, shape in (
        (PICTURE, PICTURE.shape),
        (ROW, (4,)),
        (spaces.Discrete(7), (7,)),
        (spaces.Dict(a=ROW, b=spaces.MultiBinary(3)), (7,)),
    ):
        encoder, size = encoder_of("tiny_encoders:Shapes", space)
        assert size == 2
        features = encoder(torch.zeros(3, layout_of(space).size))
        assert features[0, 0] == np.prod(shape) + 100 * (1 + len(shape))


def test_parameters_depend_on_the_seed_alone():
    config = make_config(encoder="tiny_encoders:Tower", seed=4)
    states = []
    for k in range(2):
        torch.manual_seed(k)
        before = torch.random.get_rng_state()
        states.append(make_learner(config, layout_of(ROW), discrete()).state()["model"])
        assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(x, states[1][name]) for name, x in states[0].items())
    # Policy and critic have one each, which start differently; another seed gives others.
    name = "hidden.0.0.layers.0.weight"
    policy, critic = states[0][f"actor.{name}"], states[0]["critic.0.0.layers.0.weight"]
    assert not torch.equal(policy, critic)
    other = make_learner(dataclasses.replace(config, seed=5), layout_of(ROW), discrete())
    assert not torch.equal(policy, other.state()["model"][f"actor.{name}"])


def test_a_shared_trunk_has_one_encoder():
    config = make_config(encoder="tiny_encoders:Tower", shared_trunk=True, hidden_sizes=())
    model = make_learner(config, layout_of(ROW), discrete()).model
    assert [name for name, _ in model.named_children()] == ["trunk", "actor", "critic"]
    assert len(list(model.trunk.parameters())) == 6
    assert (model.actor.head.in_features, model.critic[0].in_features) == (3, 3)


SMALL = {
    "encoder": "tiny_encoders:Tower",
    "num_envs": 4,
    "num_steps": 32,
    "minibatch_size": 32,
    "total_steps": 512,
    "eval_episodes": 2,
    "hidden_sizes": (8,),
}


@pytest.mark.parametrize("algorithm", ["reinforce", "a2c", "trpo", "ppo-kl", "ppo-clip"])
def test_every_algorithm_takes_one(algorithm, tmp_path):
    config = TrainConfig("CartPole-v1", algorithm=algorithm, out=tmp_path / "run", **SMALL)
    result = ppo_fast.train(config)
    fresh = make_learner(config, result.policy.observations, discrete()).state()["model"]
    trained = result.policy._learner.state()["model"]
    moved = {name for name, x in fresh.items() if not torch.equal(x, trained[name])}
    assert moved == {name for name in fresh if "scale" not in name}
    obs = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    pickled = pickle.loads(pickle.dumps(result.policy))
    for policy in (ppo_fast.load(config.out), copy.deepcopy(result.policy), pickled):
        np.testing.assert_array_equal(policy.values(obs), result.policy.values(obs))


def test_a_run_goes_on_with_the_same_bits(tmp_path):
    whole = TrainConfig("CartPole-v1", out=tmp_path / "whole", **SMALL)
    half = dataclasses.replace(whole, out=tmp_path / "half", anneal_lr=False, total_steps=256)
    ppo_fast.train(dataclasses.replace(whole, anneal_lr=False))
    ppo_fast.train(half)
    ppo_fast.train(resume=half.out, total_steps=512)
    a, b = (ppo_fast.load(out)._learner.state()["model"] for out in (half.out, whole.out))
    assert all(torch.equal(x, b[name]) for name, x in a.items())


def test_the_command_imports_from_the_current_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of_mine.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Linear):\n"
        "    def __init__(self, space):\n        super().__init__(space.shape[0], 6)\n"
    )
    words = "train CartPole-v1 --encoder of_mine:Net --total-steps 256 --num-envs 4 --num-steps 64"
    assert main([*words.split(), "--eval-episodes", "0", "--out", "run"]) == 0
    assert "trains on torch, not on the native engine: encoders are modules of torch" in (
        capsys.readouterr().out
    )
    assert main(["eval", "run", "--episodes", "1"]) == 0


# Refusals


@pytest.mark.parametrize(
    ("name", "space", "message"),
    [
        ("nowhere_at_all:Net", ROW, "cannot be imported: No module named 'nowhere_at_all'"),
        ("tiny_encoders:Nothing", ROW, "but tiny_encoders has no Nothing"),
        ("tiny_encoders:no_class", ROW, "must be a class of torch.nn.Module, but .*function"),
        ("tiny_encoders:Raises", ROW, "cannot take observations in Box.*: KeyError: 'no idea'"),
        (
            "tiny_encoders:Tower",
            PICTURE,
            "cannot take observations in Box.*: RuntimeError: ",
        ),
        ("tiny_encoders:Square", ROW, r"must give features \[B, F\]; .* B = 2 it gave \(2, 4, 1\)"),
        ("tiny_encoders:Wide", ROW, "parameters of float32, got torch.float64 of 0.layers.0.weig"),
        ("tiny_encoders:Normed", ROW, "has a BatchNorm1d, which gives other features"),
        ("tiny_encoders:Dropping", ROW, "has a Dropout, which gives other features"),
        ("cnn", ROW, r"pictures are a Box with three axes, got Box\(-1.0, 1.0, \(4,\), float32\)"),
        ("cnn", spaces.Box(0, 1, (3, 35, 64)), "must be at least 36 x 36, got 35 x 64"),
        ("cnn", spaces.Discrete(3), r"pictures are a Box with three axes, got Discrete\(3\)"),
    ],
)
def test_what_cannot_be_trained_with(name, space, message):
    with pytest.raises(ValueError, match=f"^encoder '{name}' .*{message}"):
        encoder_of(name, space)


def test_nothing_is_left_behind(tmp_path):
    config = TrainConfig("CartPole-v1", encoder="cnn", out=tmp_path / "run")
    with pytest.raises(ValueError, match="encoder 'cnn' cannot take observations"):
        ppo_fast.train(config)
    assert list(tmp_path.iterdir()) == []


def test_the_native_engine_has_none(tmp_path):
    config = TrainConfig("CartPole-v1", engine="native", out=tmp_path / "run", **SMALL)
    with pytest.raises(ValueError, match=r"engine native .*: encoders are modules of torch"):
        ppo_fast.train(config)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"encoder": 3}, TypeError, "encoder must be a string or None, got 3"),
        ({"encoder": "resnet"}, ValueError, "encoder must be cnn, module:Class or None, got 'resn"),
        ({"encoder": "net.py"}, ValueError, "encoder must be cnn, module:Class or None, got 'net"),
        ({"encoder": "cnn", "normalize_obs": True}, ValueError, "cnn scales pictures by itself"),
    ],
)
def test_settings(changes, error, message):
    with pytest.raises(error, match=message):
        TrainConfig("Any-v0", **changes)

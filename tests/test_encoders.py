"""Encoders: features of observations before the hidden layers (ppo_fast/learners/encoders.py)."""

import copy
import dataclasses
import pickle

import gymnasium
import numpy as np
import pytest
import tiny_envs
from algorithm_cases import discrete, make_config
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from test_observations import SPACES

torch = pytest.importorskip("torch")

import ppo_fast  # noqa: E402 - after the check for torch
from ppo_fast import TrainConfig  # noqa: E402
from ppo_fast.cli import main  # noqa: E402
from ppo_fast.learners import make_learner  # noqa: E402
from ppo_fast.learners.encoders import PictureEncoder, make_encoder, own_shape  # noqa: E402
from ppo_fast.observations import ObsLayout  # noqa: E402

ROW = spaces.Box(-1, 1, (4,), np.float32)
PICTURE = spaces.Box(0, 255, (36, 40, 2), np.uint8)


def layout_of(space):
    return ObsLayout.of("Any-v0", space)


def encoder_of(name, space, seed=0, **changes):
    return make_encoder(name, layout_of(space), torch.Generator().manual_seed(seed), **changes)


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


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_the_bounds_say_what_pictures_are_divided_by(dtype):
    of_bytes, _ = encoder_of("cnn", spaces.Box(0, 255, PICTURE.shape, dtype))
    of_floats, _ = encoder_of("cnn", spaces.Box(0, 1, PICTURE.shape, np.float32))
    rows = torch.rand(2, PICTURE.sample().size)
    torch.testing.assert_close(of_bytes(255 * rows), of_floats(rows))


def test_normalised_pictures_are_not_divided():
    layout = layout_of(PICTURE)
    config = make_config(encoder="cnn", normalize_obs=True)
    learner = make_learner(config, layout, discrete())
    trunk, _ = make_encoder("cnn", layout.normalized(10.0), torch.Generator().manual_seed(0))
    policy_trunk = learner.model.actor.hidden[0]
    policy_trunk.load_state_dict(trunk.state_dict())
    rows = torch.from_numpy(layout.sampled(3)) / 100
    assert torch.equal(policy_trunk(rows), trunk(rows))
    torch.testing.assert_close(
        trunk(rows), encoder_with(PICTURE, trunk.state_dict())(255 * rows), rtol=1e-4, atol=1e-5
    )


def encoder_with(space, state):
    encoder, _ = encoder_of("cnn", space)
    encoder.load_state_dict(state)
    return encoder


def test_convolutions_start_orthogonal():
    for layer in PictureEncoder(PICTURE).layers:
        if isinstance(layer, torch.nn.Conv2d):
            rows = layer.weight.detach().flatten(1)
            torch.testing.assert_close(rows @ rows.T, 2 * torch.eye(len(rows)), atol=1e-5, rtol=0)
            assert not layer.bias.any()


@pytest.fixture
def bars():
    tiny_envs.register()
    yield tiny_envs.BARS
    tiny_envs.unregister()


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
        total_steps=4096,  # with which ten seeds of ten have 1.0
        learning_rate=1e-3,
        eval_episodes=100,
        out=tmp_path / "run",
    )
    result = ppo_fast.train(config)
    assert not [str(w.message) for w in recwarn if "pictures" in str(w.message)]
    assert result.evaluation.mean_return > 0.9
    policy = ppo_fast.load(config.out)
    env = tiny_envs.Bars()
    pictures = np.stack([env.reset(seed=seed)[0] for seed in range(20)])
    chosen = policy.predict(pictures)
    np.testing.assert_array_equal(chosen, result.policy.predict(pictures))
    assert policy.predict(pictures[3]) == chosen[3]
    assert set(chosen) == {0, 1}
    # As a torch module for others: rows in, logits and values out.
    rows, _ = policy.observations.read(pictures)
    logits, values = policy.network()(torch.from_numpy(rows))
    np.testing.assert_array_equal(logits.argmax(dim=1), chosen)
    assert values.shape == (20,)


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
    with pytest.warns(
        UserWarning, match="shows pictures; .* of 1,296 .*: give it an encoder: cnn for a pic"
    ):
        ppo_fast.train(config)


# Modules of one's own


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_observations_come_as_the_environment_has_them(space):
    many = batch_space(space, 5)
    many.seed(1)
    obs = many.sample()
    rows = torch.from_numpy(layout_of(space).rows(obs, 5))
    assert_same(own_shape(space)(rows), obs, space)


def assert_same(given, obs, space):
    if isinstance(space, spaces.Dict):
        assert list(given) == list(space.spaces)
        for name, part in space.spaces.items():
            assert_same(given[name], obs[name], part)
    elif isinstance(space, spaces.Tuple):
        assert isinstance(given, tuple)
        for one, other, part in zip(given, obs, space.spaces, strict=True):
            assert_same(one, other, part)
    elif isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        assert given.shape == (5, gymnasium.spaces.flatdim(space))
        assert torch.equal(given, torch.from_numpy(layout_of(space).rows(obs, 5)))
    else:
        assert (given.shape, given.dtype) == ((5, *space.shape), torch.float32)
        np.testing.assert_array_equal(given, obs.astype(np.float32))


@pytest.mark.parametrize("normalize_obs", [False, True])
def test_a_picture_among_other_things(normalize_obs, bars, tmp_path):
    config = TrainConfig(
        tiny_envs.SCENE,
        out=tmp_path / "run",
        normalize_obs=normalize_obs,
        **SMALL | {"encoder": "tiny_encoders:Scene"},
    )
    policy = ppo_fast.train(config).policy
    obs = tiny_envs.Scene().reset(seed=5)[0]
    assert policy.predict(obs) in (0, 1)
    rows = torch.from_numpy(policy.observations.row(obs)).repeat(3, 1)
    network = policy.network()
    outputs, values = network(rows)
    assert values[0].item() == pytest.approx(float(policy.values(obs)), rel=1e-4)
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(network, (rows,), dynamic_shapes=(batch,)).module()
    torch.testing.assert_close(program(rows)[0], outputs)
    torch.testing.assert_close(program(rows[:2])[1], values[:2])


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
    name = "hidden.0.1.layers.0.weight"
    policy, critic = states[0][f"actor.{name}"], states[0]["critic.0.1.layers.0.weight"]
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


def test_generators_of_gpus_are_left_alone(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    torch.manual_seed(0)
    assert seeds == [0]
    encoder_of("tiny_encoders:Tower", ROW)
    assert seeds == [0]


@pytest.mark.parametrize("name", ["Attentive", "Lazy", "Keeping", "Frozen"])
def test_what_may_be_in_one(name, tmp_path):
    # As many rows when it acts as when it learns: what it keeps from the one serves the other.
    changes = {"encoder": f"tiny_encoders:{name}", "num_envs": 32, "num_steps": 8}
    result = ppo_fast.train(TrainConfig("CartPole-v1", out=tmp_path / "run", **SMALL | changes))
    assert np.isfinite(result.metrics["value_loss"]).all()


@pytest.mark.parametrize("algorithm", ["ppo-clip", "trpo"])
def test_what_is_frozen_stays(algorithm, tmp_path):
    settings = SMALL | {"encoder": "tiny_encoders:Frozen", "algorithm": algorithm}
    config = TrainConfig("CartPole-v1", out=tmp_path / "run", **settings)
    policy = ppo_fast.train(config).policy
    fresh = make_learner(config, policy.observations, discrete()).state()["model"]
    trained = policy._learner.state()["model"]
    moved = {name for name, x in fresh.items() if not torch.equal(x, trained[name])}
    still = ("scale", ".1.layers.0.", "unused")
    assert moved == {name for name in fresh if not any(part in name for part in still)}


def test_any_bounds_can_be_tried():
    for low, high, dtype in (
        (-3.4e38, 3.4e38, np.float32),
        (np.finfo(np.float64).min, np.finfo(np.float64).max, np.float64),
        (np.iinfo(np.int64).min, np.iinfo(np.int64).max, np.int64),
        (-np.inf, 1e300, np.float64),
    ):
        layout = layout_of(spaces.Box(low, high, (4,), dtype))
        rows = layout.sampled(50)
        assert np.abs(rows).max() <= 1e4
        np.testing.assert_array_equal(layout.sampled(50), rows)
        assert encoder_of("tiny_encoders:Tower", layout.space)[1] == 3


# Refusals


ONCE_MORE = "gives other features for the same observations when it is called once more"
FEATURES = r"must give features \[B, F\], a tensor of float32 .*; for B = "


@pytest.mark.parametrize(
    ("name", "space", "message"),
    [
        (
            "nowhere:Net",
            ROW,
            "No module named 'nowhere'; run it from the folder of that module, or",
        ),
        ("tiny_encoders:Nothing", ROW, "but tiny_encoders has no Nothing"),
        ("tiny_encoders:no_class", ROW, "must be a class of torch.nn.Module, but .*function"),
        ("tiny_encoders:Raises", ROW, r"Box.*: KeyError: 'no idea' \(.*tiny_encoders.py:\d+\)$"),
        (
            "tiny_encoders:Tower",
            PICTURE,
            r"cannot take observations in Box.*: RuntimeError: .* \(.*tiny_encoders.py:\d+\)$",
        ),
        ("torch.nn:Linear", ROW, "TypeError: .* missing 1 required .*: 'out_features'$"),
        ("tiny_encoders:Writing", ROW, "writes to the observations that it is given; work on a"),
        ("tiny_encoders:Square", ROW, FEATURES + r"4 it gave \(4, 4, 1\), torch.float32 on cpu"),
        ("tiny_encoders:Pair", ROW, FEATURES + "4 it gave tuple"),
        ("tiny_encoders:Empty", ROW, FEATURES + r"4 it gave \(4, 0\)"),
        ("tiny_encoders:Double", ROW, FEATURES + r"4 it gave \(4, 4\), torch.float64 on cpu"),
        ("tiny_encoders:Squeezed", ROW, FEATURES + r"1 it gave \(3,\)"),
        ("tiny_encoders:Infinite", ROW, "gives features that are not finite for observations of"),
        ("tiny_encoders:Noisy", ROW, ONCE_MORE),
        ("tiny_encoders:Remembering", ROW, ONCE_MORE),
        ("tiny_encoders:Dropping", ROW, ONCE_MORE),
        ("tiny_encoders:Leaking", ROW, ONCE_MORE),
        ("tiny_encoders:Attending", ROW, ONCE_MORE),
        ("tiny_encoders:Centred", ROW, "gives other features for an observation alone than beside"),
        ("tiny_encoders:Normed", ROW, "changes layers.3.running_mean when it is called"),
        ("tiny_encoders:Counting", ROW, "changes calls when it is called"),
        (
            "tiny_encoders:Noting",
            ROW,
            "state_dict of tensors, .* got _extra_state: str; keep it in",
        ),
        (
            "tiny_encoders:Detached",
            ROW,
            "has parameters that no gradient reaches; leave out detach",
        ),
        ("tiny_encoders:Wide", ROW, "parameters of float32, got torch.float64 of layers.0.weight"),
        ("cnn", ROW, r"pictures are a Box with three axes, got Box\(-1.0, 1.0, \(4,\), float32\)$"),
        ("cnn", spaces.Box(0, 1, (3, 35, 64)), "must be at least 36 x 36, got 35 x 64$"),
        ("cnn", spaces.Discrete(3), r"pictures are a Box with three axes, got Discrete\(3\)$"),
    ],
)
def test_what_cannot_be_trained_with(name, space, message):
    with pytest.raises(ValueError, match=f"^encoder '{name}' .*{message}"):
        encoder_of(name, space)


def test_what_a_module_lacks_is_not_sought_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "lacking.py").write_text("import nowhere_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"imported: No module named 'nowhere_at_all'$"):
        encoder_of("lacking:Net", ROW)


def test_trpo_wants_derivatives_in_forward_mode(tmp_path):
    settings = SMALL | {"encoder": "tiny_encoders:Attentive", "algorithm": "trpo"}
    config = TrainConfig("CartPole-v1", out=tmp_path / "run", **settings)
    message = r"^encoder '.*' cannot be trained by trpo: .* does not support it .*; choose another"
    with pytest.raises(ValueError, match=message):
        ppo_fast.train(config)
    assert list(tmp_path.iterdir()) == []


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
        ({"encoder": "__main__:Net"}, ValueError, "must be of a module that whoever loads"),
        ({"encoder": ".rel:Net"}, ValueError, r"can import by that name, got '\.rel:Net'"),
        ({"encoder": "nets.3d:Net"}, ValueError, "can import by that name, got 'nets.3d:Net'"),
    ],
)
def test_settings(changes, error, message):
    with pytest.raises(error, match=message):
        TrainConfig("Any-v0", **changes)

"""make_vec's other backends: Gymnasium's processes, ale-py and EnvPool, all behind one contract."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space

import ppo_fast
from ppo_fast.envs import make_stepper
from ppo_fast.envs.stepping import SingleEnvStepper, VectorEnvStepper

BACKENDS = ("ale", "envpool")
MODES = tuple(AutoresetMode)
PACKAGES = {"ale": "ale_py", "envpool": "envpool"}
# Breakout in small pictures and short episodes; it has lives, and by its id sticky actions.
IDS = {"ale": "ALE/Breakout-v5", "envpool": "CartPole-v1"}
KEYWORDS = {"ale": {"max_episode_steps": 8, "img_height": 21, "img_width": 16}, "envpool": {}}
INFOS = {"ale": {"lives", "frame_number", "episode_frame_number"}, "envpool": set()}


def make(backend, num_envs=4, env_id=None, **kwargs):
    pytest.importorskip(PACKAGES[backend])
    if env_id is None:
        env_id, kwargs = IDS[backend], {**KEYWORDS[backend], **kwargs}
    return ppo_fast.make_vec(env_id, num_envs, backend=backend, num_threads=2, **kwargs)


def random_actions(env, steps, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, env.single_action_space.n, (steps, env.num_envs))


def trajectory(env, steps=20, **reset):
    """Everything that a batch returns, as one array of bytes for comparisons."""
    results = [env.reset(**reset)[0]]
    for actions in random_actions(env, steps):
        results.extend(env.step(actions)[:4])
    return b"".join(x.tobytes() for x in results)


@pytest.fixture(autouse=True)
def metadata_of_all_vector_envs():
    """ale-py's own class writes into VectorEnv.metadata; through us that must not happen."""
    before = dict(VectorEnv.metadata)
    yield
    after = dict(VectorEnv.metadata)
    VectorEnv.metadata.clear()
    VectorEnv.metadata.update(before)
    assert after == before


@pytest.fixture(scope="module", params=BACKENDS)
def seeded(request):
    """A batch after reset(seed=0), for calls that are refused and so leave it as it is."""
    env = make(request.param)
    env.reset(seed=0)
    yield env
    env.close()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", MODES)
def test_contract(backend, mode):
    env = make(backend, autoreset_mode=mode)
    assert isinstance(env, VectorEnv)
    assert env.num_envs == 4
    assert env.metadata["autoreset_mode"] is mode
    assert env.spec is None
    assert env.render_mode is None
    assert env.observation_space == batch_space(env.single_observation_space, 4)
    assert env.action_space == batch_space(env.single_action_space, 4)
    obs, infos = env.reset(seed=0)
    assert obs in env.observation_space
    assert infos.keys() == INFOS[backend] | {f"_{key}" for key in INFOS[backend]}
    ends = 0
    for actions in random_actions(env, 40):
        obs, rewards, terminated, truncated, infos = env.step(actions)
        assert obs.dtype == env.observation_space.dtype
        assert obs.shape == env.observation_space.shape
        assert (rewards.dtype, rewards.shape) == (np.float64, (4,))
        assert (terminated.dtype, terminated.shape) == (np.bool_, (4,))
        assert (truncated.dtype, truncated.shape) == (np.bool_, (4,))
        assert all(x.flags.writeable for x in (obs, rewards, terminated, truncated))
        for key in INFOS[backend]:
            assert infos[key].shape == (4,)
            assert infos[f"_{key}"].all()
        over = terminated | truncated
        ends += over.sum()
        if mode is AutoresetMode.DISABLED and over.any():
            env.reset(options={"reset_mask": over})
    assert ends > 4
    env.close()
    env.close()
    assert env.closed
    for call in (env.reset, lambda: env.step([0] * 4)):
        with pytest.raises(ClosedEnvironmentError):
            call()


@pytest.mark.parametrize("backend", BACKENDS)
def test_seeds(backend):
    env, other = make(backend), make(backend)
    first = trajectory(env, seed=5)
    assert env.np_random_seed == (5, 6, 7, 8)
    assert trajectory(other, seed=[5, 6, 7, 8]) == first
    on = trajectory(env)
    assert on != first
    assert trajectory(other) == on
    assert env.np_random_seed == (5, 6, 7, 8)
    assert trajectory(env, seed=np.int64(5)) == first
    assert trajectory(env, seed=6) != first
    assert trajectory(env, seed=0) == trajectory(other, seed=0)
    large = [2**64 - 1, 2**31, 2**200, 2**31 - 1]
    assert trajectory(env, seed=large) == trajectory(other, seed=large)
    assert env.np_random_seed == other.np_random_seed
    assert len(set(env.np_random_seed)) == 4
    assert env.np_random_seed[3] == 2**31 - 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_seeds_every_batch_is_new(backend):
    env, other = make(backend), make(backend)
    promised = env.np_random_seed
    start = trajectory(env)
    assert env.np_random_seed == promised
    assert trajectory(other) != start
    assert trajectory(other, seed=list(promised)) == start


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_do_not_depend_on_threads(backend):
    pytest.importorskip(PACKAGES[backend])
    one, two = (
        ppo_fast.make_vec(IDS[backend], 5, backend=backend, num_threads=n, **KEYWORDS[backend])
        for n in (1, 2)
    )
    assert trajectory(one, seed=1) == trajectory(two, seed=1)


def transitions(env, steps):
    """Per environment its transitions (obs, reward, terminated, truncated, next obs), without
    reset steps; the k-th action of an environment is the same in every mode."""
    mode = env.metadata["autoreset_mode"]
    table = random_actions(env, steps)
    seen = [[] for _ in range(env.num_envs)]
    obs, _ = env.reset(seed=3)
    over = np.zeros(env.num_envs, bool)
    for _ in range(steps):
        actions = np.array([table[len(seen[i]), i] for i in range(env.num_envs)])
        after, rewards, terminated, truncated, infos = env.step(actions)
        for i in range(env.num_envs):
            ended = bool(terminated[i] or truncated[i])
            if mode is AutoresetMode.NEXT_STEP and over[i]:
                assert (rewards[i], ended) == (0.0, False)
                continue
            last = after[i]
            if mode is AutoresetMode.SAME_STEP and ended:
                last = infos["final_obs"][i]
            seen[i].append((obs[i], rewards[i], terminated[i], truncated[i], last))
        over = terminated | truncated
        if mode is AutoresetMode.DISABLED and over.any():
            untouched = after[~over].copy()
            after, _ = env.reset(options={"reset_mask": over})
            np.testing.assert_array_equal(after[~over], untouched)
        obs = after
    return seen


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_autoreset_modes_see_the_same_episodes(backend):
    seen = {mode: transitions(make(backend, autoreset_mode=mode), 80) for mode in MODES}
    ends = 0
    for i in range(4):
        counts = {mode: len(rows[i]) for mode, rows in seen.items()}
        assert counts[AutoresetMode.SAME_STEP] == counts[AutoresetMode.DISABLED] == 80
        assert 60 < counts[AutoresetMode.NEXT_STEP] < 80
        for rows in zip(*(seen[mode][i] for mode in MODES), strict=False):
            ends += rows[0][2] or rows[0][3]
            for row in rows[1:]:
                for a, b in zip(row, rows[0], strict=True):
                    np.testing.assert_array_equal(a, b)
    assert ends > 8


def test_same_step_infos_are_gymnasiums():
    ours = make("envpool", 8, autoreset_mode=AutoresetMode.SAME_STEP)
    sync = ppo_fast.make_vec(
        "CartPole-v1", 8, backend="gymnasium", autoreset_mode=AutoresetMode.SAME_STEP
    )
    checked = 0
    for env in (ours, sync):
        env.reset(seed=0)
        for actions in random_actions(env, 60):
            obs, _, terminated, truncated, infos = env.step(actions)
            over = terminated | truncated
            if not over.any():
                assert infos == {}
                continue
            checked += 1
            assert infos.keys() == {"final_obs", "_final_obs", "final_info", "_final_info"}
            assert infos["final_obs"].dtype == object
            assert infos["final_info"] == {}
            for mask in ("_final_obs", "_final_info"):
                np.testing.assert_array_equal(infos[mask], over)
            for i in range(8):
                final = infos["final_obs"][i]
                assert (final is not None) == over[i]
                if over[i]:
                    assert np.abs(final[[0, 2]]).max() > 0.2  # far out, where the pole fell
                    assert np.abs(obs[i]).max() < 0.05  # a start
    assert checked > 20


def test_same_step_infos_of_ale():
    env = make("ale", 3, autoreset_mode=AutoresetMode.SAME_STEP, noop_max=0)
    env.reset(seed=0)
    for step in range(1, 17):
        *_, truncated, infos = env.step([0, 0, 0])
        assert truncated.all() == (step % 8 == 0)
        assert infos["_lives"].all()
        if truncated.all():
            final = infos["final_info"]
            assert final.keys() == {*INFOS["ale"], *(f"_{key}" for key in INFOS["ale"])}
            np.testing.assert_array_equal(final["_lives"], truncated)
            assert (final["episode_frame_number"] >= 32).all()
            assert (infos["episode_frame_number"] < 10).all()
            assert (final["frame_number"] < infos["frame_number"]).all()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("episodic_life", [False, True])
def test_ale_equals_its_own_modes(mode, episodic_life):
    """SAME_STEP is made of partial resets, with the bits of the package's own SAME_STEP."""
    vector_env = pytest.importorskip("ale_py.vector_env")
    keywords = {
        "img_height": 21,
        "img_width": 16,
        "max_num_frames_per_episode": 300,
        "repeat_action_probability": 0.1,
        "episodic_life": episodic_life,
    }
    ours = make("ale", 4, "Breakout-v5", autoreset_mode=mode, **keywords)

    class Original(vector_env.AtariVectorEnv):
        metadata = {}  # noqa: RUF012

    original = Original("breakout", 4, autoreset_mode=mode, num_threads=2, **keywords)
    ours.reset(seed=7)
    original.reset(seed=7)
    ends = 0
    for actions in random_actions(ours, 160):
        *arrays, infos = ours.step(actions)
        *expected, expected_infos = original.step(actions)
        for a, b in zip(arrays, expected, strict=True):
            np.testing.assert_array_equal(a, b)
        for key in INFOS["ale"]:
            np.testing.assert_array_equal(infos[key], expected_infos[key])
        over = arrays[2] | arrays[3]
        ends += over.sum()
        for i in np.flatnonzero(over) if mode is AutoresetMode.SAME_STEP else ():
            np.testing.assert_array_equal(infos["final_obs"][i], expected_infos["final_obs"][i])
    assert ends > (10 if episodic_life else 3)


def test_envpool_equals_its_own():
    package = pytest.importorskip("envpool")
    ours = make("envpool", 4)
    original = package.make_gymnasium("CartPole-v1", num_envs=4, seed=7)
    with pytest.warns(UserWarning, match="precision lowered"):  # through us there are none
        assert original.observation_space == ours.single_observation_space
    obs, _ = ours.reset(seed=7)
    np.testing.assert_array_equal(obs, original.reset()[0])
    for actions in random_actions(ours, 60):
        for a, b in zip(ours.step(actions)[:4], original.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(a, b)


def test_envpool_never_reports_both_ends():
    """The habit that EnvPoolVectorEnv documents; Gymnasium sets both flags here."""
    free, limited = make("envpool", 1), None
    free.reset(seed=0)
    length = next(k for k in range(1, 99) if free.step([1])[2][0])
    limited = make("envpool", 1, max_episode_steps=length)
    limited.reset(seed=0)
    flags = [limited.step([1])[2:4] for _ in range(length)][-1]
    assert [bool(flag[0]) for flag in flags] == [False, True]


def test_ale_ids_and_limits():
    env = make("ale", 2, "ALE/Breakout-v5", autoreset_mode=AutoresetMode.SAME_STEP)
    assert env.single_observation_space.shape == (4, 84, 84)
    assert env.single_action_space == gymnasium.spaces.Discrete(4)
    start = env.reset(seed=0)[0]
    for same in ("Breakout-v5", "ale_py:ALE/Breakout-v5"):
        np.testing.assert_array_equal(make("ale", 2, same).reset(seed=0)[0], start)
    assert make("ale", 1, "MsPacman-v5").single_action_space.n == 9
    # Steps, not frames, and without the no-ops of a start.
    for frameskip in (4, 3):
        env = make("ale", 2, "Pong-v5", max_episode_steps=7, frameskip=frameskip)
        env.reset(seed=0)
        truncated = [bool(env.step([0, 0])[3].all()) for _ in range(8)]
        assert truncated == [False] * 6 + [True, False]


def test_ale_continuous_actions():
    env = make("ale", 2, "Pong-v5", continuous=True)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    env.step(np.zeros((2, 3)))  # float64 is cast
    with pytest.raises(ValueError, match=r"must have shape \(2, 3\) .*, got \(2,\)"):
        env.step([0, 0])


def test_discrete_observations_and_box_actions():
    env = make("envpool", 3, "FrozenLake-v1")
    obs, _ = env.reset(seed=0)
    assert obs in env.observation_space
    assert obs.dtype == np.int64
    assert env.step([0, 1, 2])[0].dtype == np.int64
    env = make("envpool", 3, "Pendulum-v1")
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[0].shape == (3, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_kept_arrays_never_change(backend):
    env = make(backend, autoreset_mode=AutoresetMode.SAME_STEP)
    kept = [env.reset(seed=0)[0]]
    finals = []
    for actions in random_actions(env, 40):
        *arrays, infos = env.step(actions)
        kept.extend(arrays)
        finals.extend(x for x in infos.get("final_obs", ()) if x is not None)
    kept.extend(finals)
    copies = [x.copy() for x in kept]
    for actions in random_actions(env, 40):
        env.step(actions)
    env.close()
    for a, b in zip(kept, copies, strict=True):
        assert a.tobytes() == b.tobytes()
    assert finals


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_caller_does_to_observations_stays_with_it(backend):
    env = make(backend, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    obs = env.step([0] * 4)[0]
    before = obs.copy()
    obs[:] = 99
    options = {"reset_mask": np.array([True, False, False, False])}
    after, infos = env.reset(options=options)
    assert list(options) == ["reset_mask"]
    np.testing.assert_array_equal(after[1:], before[1:])
    assert (after[0] != before[0]).any()
    for key in INFOS[backend]:
        np.testing.assert_array_equal(infos[f"_{key}"], options["reset_mask"])


def test_ale_reseeds_single_environments():
    env, other = make("ale"), make("ale")
    env.reset(seed=0)
    other.reset(seed=9)
    mask = np.array([False, True, False, True])
    obs, _ = other.reset(seed=[None, 1, None, 3], options={"reset_mask": mask})
    assert other.np_random_seed == (9, 1, 11, 3)
    np.testing.assert_array_equal(obs[mask], env.reset(seed=0)[0][mask])


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrappers_of_gymnasium_run(backend):
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(make(backend))
    env = gymnasium.wrappers.vector.NormalizeReward(env)
    env.reset(seed=0)
    episodes = sum(
        int(env.step(actions)[4].get("_episode", np.zeros(4)).sum())
        for actions in np.zeros((60, 4), np.int64)
    )
    assert episodes > 4


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        (0, TypeError, r"one per environment \(4\), got 0"),
        (np.int64(1), TypeError, "one per environment"),
        ([0] * 3, ValueError, r"shape \(4,\) \(one action per environment\), got \(3,\)"),
        ([0] * 5, ValueError, r"got \(5,\)"),
        (np.zeros((4, 1), np.int64), ValueError, r"got \(4, 1\)"),
        (np.zeros(4), TypeError, r"must be int64, got float64; cast with actions.astype"),
        ([0, 0, 99, 0], ValueError, "must be from 0 to .*, got 99 for environment 2"),
        ([-1, 0, 0, 0], ValueError, "got -1 for environment 0"),
    ],
)
def test_wrong_actions(seeded, actions, error, message):
    """EnvPool aborts the process for too few actions, ale-py hangs for one out of range."""
    with pytest.raises(error, match=f"step: actions .*{message}"):
        seeded.step(actions)
    seeded.step(np.zeros(4, np.uint8))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seed": [1, 2]}, ValueError, r"one entry per environment \(4\), got 2"),
        ({"seed": -1}, ValueError, "must not be negative, got -1"),
        ({"seed": "x"}, TypeError, "seed must be an integer, a list of integers or None, got 'x'"),
        ({"seed": 1.5}, TypeError, "seed must be an integer"),
        ({"options": 5}, TypeError, "options must be a dict or None, got 5"),
        ({"options": {"low": 1}}, ValueError, "may hold only 'reset_mask', got low"),
        ({"options": {"reset_mask": [True] * 4}}, TypeError, "`dtype=np.bool_`, got list"),
        ({"options": {"reset_mask": np.ones(4)}}, TypeError, "got float64"),
        ({"options": {"reset_mask": np.ones(3, bool)}}, ValueError, r"shape `\(4,\)`, got \(3,\)"),
        ({"options": {"reset_mask": np.zeros(4, bool)}}, ValueError, "at least one True value"),
    ],
)
def test_wrong_resets(seeded, arguments, error, message):
    with pytest.raises(error, match=message):
        seeded.reset(**arguments)
    assert seeded.np_random_seed == (0, 1, 2, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_of_calls(backend):
    env = make(backend, autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(ResetNeeded):
        env.step([0] * 4)
    with pytest.raises(ResetNeeded, match="first reset must cover all"):
        env.reset(options={"reset_mask": np.array([True, False, False, False])})
    env.reset(seed=0)
    over = np.zeros(4, bool)
    while not over.any():
        over = np.logical_or(*env.step([1] * 4)[2:4])
    with pytest.raises(ValueError, match=f"episode of environment {over.argmax()} is over"):
        env.step([1] * 4)
    env.reset(options={"reset_mask": over})
    env.step([1] * 4)


def test_envpool_cannot_reseed_some():
    env = make("envpool")
    mixed = env.reset(seed=[1, None, 3, None])[0]  # before the first reset it can
    np.testing.assert_array_equal(
        mixed[[0, 2]], make("envpool").reset(seed=[1, 0, 3, 0])[0][[0, 2]]
    )
    seeds = env.np_random_seed
    for arguments in (
        {"seed": [1, None, 3, None]},
        {"seed": 0, "options": {"reset_mask": np.array([True, False, False, False])}},
    ):
        with pytest.raises(ValueError, match="given for all environments or none"):
            env.reset(**arguments)
    assert env.np_random_seed == seeds
    assert env.step([0] * 4)[0].shape == (4, 4)


@pytest.mark.parametrize(
    ("backend", "arguments", "error", "message"),
    [
        ("ale", {"env_id": "Pogn-v5"}, ValueError, "no game 'Pogn-v5'; did you mean .*ALE/Pong-v5"),
        ("ale", {"env_id": "CartPole-v1"}, ValueError, "no game 'CartPole-v1'"),
        ("ale", {"env_id": "Pong-v4"}, ValueError, "no game 'Pong-v4'; did you mean ALE/Pong-v5"),
        ("ale", {"env_id": "no such game"}, ValueError, "ids look like ALE/Pong-v5"),
        ("ale", {"batch_size": 2}, ValueError, "does not take 'batch_size': all environments step"),
        ("ale", {"life_loss_info": True}, ValueError, "use episodic_life=True"),
        ("ale", {"render_mode": "human"}, ValueError, "render with gymnasium.make"),
        ("ale", {"max_num_frames_per_episode": 8}, ValueError, "give max_episode_steps or max_num"),
        ("ale", {"gravity": 1}, TypeError, "gravity"),
        (
            "ale",
            {"max_episode_steps": 0},
            ValueError,
            "max_episode_steps must be at least 1, got 0",
        ),
        ("ale", {"autoreset_mode": "x"}, ValueError, "AutoresetMode"),
        ("envpool", {"env_id": "CartPol-v1"}, ValueError, "no environment.*did you mean CartPole"),
        ("envpool", {"env_id": "-"}, ValueError, r"see envpool.list_all_envs\(\)"),
        ("envpool", {"env_id": "MiniGrid-Empty-5x5-v0"}, ValueError, "observations must be Box or"),
        ("envpool", {"seed": 0}, ValueError, r"does not take 'seed': seed with reset\(seed=...\)"),
        ("envpool", {"batch_size": 2}, ValueError, "does not take 'batch_size'"),
        ("envpool", {"render_mode": "rgb_array"}, ValueError, "render with gymnasium.make"),
        ("envpool", {"max_num_players": 2}, ValueError, "has several players"),
        ("envpool", {"gravity": 1}, TypeError, "gravity"),
        ("envpool", {"max_episode_steps": 0}, ValueError, "must be at least 1, got 0"),
        ("envpool", {"vectorization": "async"}, ValueError, "pass backend='gymnasium'"),
    ],
)
def test_make_vec_errors(backend, arguments, error, message):
    pytest.importorskip(PACKAGES[backend])
    arguments = {"env_id": IDS[backend], **KEYWORDS[backend], **arguments}
    with pytest.raises(error, match=message):
        ppo_fast.make_vec(num_envs=2, backend=backend, **arguments)


@pytest.mark.parametrize("backend", BACKENDS)
def test_number_of_threads_is_checked(backend):
    with pytest.raises(ValueError, match="num_threads must be at least 1, got 0"):
        ppo_fast.make_vec(IDS[backend], 2, backend=backend, num_threads=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_missing_package_is_named(backend, monkeypatch):
    package = PACKAGES[backend]
    monkeypatch.delitem(sys.modules, "ale_py.vector_env", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    line = f'{package} is not installed: pip install "ppo-fast\\[{backend}\\]"'
    with pytest.raises(ImportError, match=f"^{line}$"):
        ppo_fast.make_vec(IDS[backend], 2, backend=backend)


def test_the_default_backend_of_a_game_is_gymnasiums():
    pytest.importorskip("ale_py")
    program = (
        "import ppo_fast\n"
        "env = ppo_fast.make_vec('ALE/Pong-v5', 2)\n"
        "print(type(env).__name__, env.single_observation_space.shape)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.split("\n")[-2] == "SyncVectorEnv (210, 160, 3)"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("mode", MODES)
def test_async_equals_sync(mode):
    def run(vectorization):
        env = ppo_fast.make_vec(
            "CartPole-v1",
            2,
            backend="gymnasium",
            vectorization=vectorization,
            autoreset_mode=mode,
            max_episode_steps=10,
        )
        assert isinstance(env, AsyncVectorEnv if vectorization == "async" else SyncVectorEnv)
        assert env.metadata["autoreset_mode"] is mode
        seen = transitions(env, 30)
        env.close()
        return seen

    for sync, parallel in zip(run(None), run("async"), strict=True):
        for row, other in zip(sync, parallel, strict=True):
            for a, b in zip(row, other, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vectorization": "threads"}, r"one of \('sync', 'async'\) or None, got 'threads'"),
        ({"vectorization": "async"}, "got 'async' with backend 'native'; leave it out or pass"),
        ({"vectorization": "sync", "backend": "native"}, "is for backend='gymnasium'"),
    ],
)
def test_wrong_vectorization(arguments, message):
    with pytest.raises(ValueError, match=message):
        ppo_fast.make_vec("CartPole-v1", 2, **arguments)


@pytest.mark.parametrize("backend", BACKENDS)
def test_stepper(backend):
    """The trainer's view: obs go on, final_obs hold the ends, whatever the package knows."""
    pytest.importorskip(PACKAGES[backend])
    env, other = (
        ppo_fast.make_vec(IDS[backend], 6, backend=backend, autoreset_mode=AutoresetMode.SAME_STEP)
        for _ in range(2)
    )
    stepper = VectorEnvStepper(other)
    seeds = np.random.SeedSequence(1).generate_state(6).tolist()  # as the trainer does
    start = stepper.reset(seed=seeds)[0]
    np.testing.assert_array_equal(start, env.reset(seed=seeds)[0].reshape(6, -1))
    obs, final_obs = np.zeros_like(start), np.zeros_like(start)
    rewards = np.zeros(6, np.float32)
    terminated, truncated = np.zeros((2, 6), bool)
    ends = 0
    for actions in random_actions(env, 250):
        ended = stepper.step_into(actions, obs, rewards, terminated, truncated, final_obs)
        seen, *expected, infos = env.step(actions)
        np.testing.assert_array_equal(obs, seen.reshape(6, -1))
        for a, b in zip((rewards, terminated, truncated), expected, strict=True):
            np.testing.assert_array_equal(a, b)
        over = terminated | truncated
        assert ended == over.sum()
        for i in np.flatnonzero(over):
            np.testing.assert_array_equal(final_obs[i], infos["final_obs"][i].ravel())
            assert (final_obs[i] != obs[i]).any()
        ends += ended
    assert ends > 2
    stepper.close()


def test_steppers_of_gymnasium():
    assert isinstance(make_stepper("CartPole-v1", 1), ppo_fast.envs.NativeVectorEnv)
    assert isinstance(make_stepper("FrozenLake-v1", 1), SingleEnvStepper)
    for num_envs, vectorization in ((2, "sync"), (1, "async"), (3, "async")):
        stepper = make_stepper("FrozenLake-v1", num_envs, vectorization=vectorization)
        assert isinstance(stepper, VectorEnvStepper)
        stepper.close()
    with pytest.raises(ValueError, match="vectorization=async is for Gymnasium's environments"):
        make_stepper("CartPole-v1", 2, vectorization="async")


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("backend", ["gymnasium", *BACKENDS])
def test_episode_statistics_of_all_backends(backend, mode):
    """What native environments count, others have from Gymnasium's wrapper."""
    pytest.importorskip(PACKAGES.get(backend, "gymnasium"))
    made = {"num_envs": 3, "autoreset_mode": mode, "episode_stats": True}
    env = ppo_fast.make_vec(
        "CartPole-v1" if backend == "gymnasium" else IDS[backend],
        **made,
        **({"backend": backend} | KEYWORDS.get(backend, {})),
    )
    env.reset(seed=[1, 2, 3])
    returns, lengths, seen = np.zeros(3), np.zeros(3, int), 0
    fresh = np.zeros(3, bool)
    for actions in random_actions(env, 120):
        _, rewards, terminated, truncated, infos = env.step(actions)
        returns = np.where(fresh, 0, returns + rewards)
        lengths = np.where(fresh, 0, lengths + 1)
        done = terminated | truncated
        for i in np.flatnonzero(done):
            assert infos["_episode"][i]
            assert infos["episode"]["r"][i] == returns[i]
            assert infos["episode"]["l"][i] == lengths[i]
            seen += 1
        if mode == "NextStep":
            fresh = done
        else:
            returns[done], lengths[done] = 0, 0
    assert seen > 3
    env.close()

"""All autoreset modes of Gymnasium tell the same story."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from lit_rl.envs.gymnasium.vector import GymnasiumVectorEnv
from lit_rl.envs.vector import make_vector_env
from lit_rl.types import VectorEnv

NUM_ENVS, NUM_STEPS = 3, 40


class Toy(gymnasium.Env):
    """Episodes of 5 steps (truncated) and 7 (terminated) in turn; observations say episode, time, action."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, nested: bool = False, render_mode: str | None = None) -> None:
        self.nested, self.render_mode = nested, render_mode
        box = spaces.Box(-np.inf, np.inf, (3,), np.float64)
        inner = spaces.Dict(x=box, kind=spaces.Discrete(2, start=1))
        self.observation_space = spaces.Dict(deep=inner, time=spaces.Discrete(100)) if nested else box
        self.action_space = spaces.Box(-1.0, 1.0, (1,))
        self.episode = -1

    def _obs(self, action: float) -> Any:
        x = np.array([self.episode, self.time, action])
        return {"deep": {"x": x, "kind": 1 + self.episode % 2}, "time": self.time} if self.nested else x

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self.episode = seed % 2 - 1
        self.episode += 1
        self.time = 0
        return self._obs(0.0), {"time": -1.0}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        self.time += 1
        length = 5 + 2 * (self.episode % 2)
        ended = self.time == length
        info = {"time": float(self.time), "length_squared": np.array([1.0, 2.0]), "label": "x"}
        info |= {"success": 1.0} if ended else {}
        is_long = length == 7
        return (
            self._obs(action[0]),
            self.time + 0.5 * action[0],
            ended and is_long,
            ended and not is_long,
            info,
        )

    def render(self) -> np.ndarray:
        return np.full((2, 3, 3), self.time, np.uint8)


class Batch(gymnasium.vector.VectorEnv):
    """A native batch of Toy: next-step, or same-step with a batched ``final_obs``, as others write them."""

    def __init__(self, num_envs: int, mode: AutoresetMode, **kwargs: Any) -> None:
        self.toys = [Toy(**kwargs) for _ in range(num_envs)]
        self.num_envs, self.metadata = num_envs, {"autoreset_mode": mode}
        self.single_observation_space = self.toys[0].observation_space
        self.single_action_space = self.toys[0].action_space
        self.mode, self.ended = mode, np.zeros(num_envs, bool)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        self.ended[:] = False
        seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
        return np.stack([toy.reset(seed=s)[0] for toy, s in zip(self.toys, seeds, strict=True)]), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        rows = []
        for toy, action, ended in zip(self.toys, actions, self.ended, strict=True):
            rows.append((toy.reset()[0], 0.0, False, False, {}) if ended else toy.step(action))
        obs, reward, terminated, truncated = (
            np.array(column) for column in list(zip(*rows, strict=True))[:4]
        )
        ended, info = terminated | truncated, {}
        if self.mode is AutoresetMode.NEXT_STEP:
            self.ended = ended
        elif ended.any():
            info = {"final_obs": obs.copy()}
            obs[ended] = [toy.reset()[0] for toy, e in zip(self.toys, ended, strict=True) if e]
        return obs, reward, terminated, truncated, info


def as_list(obs: Any, row: int) -> Any:
    if isinstance(obs, dict):
        return {key: as_list(value, row) for key, value in obs.items()}
    return obs[row].tolist()


def play(env: VectorEnv) -> list[list[tuple]]:
    """Story of each environment: first obs; (reward, terminated, truncated, true next obs) of transitions."""
    action_at = np.random.default_rng(0).uniform(-1.5, 1.5, (NUM_ENVS, NUM_STEPS, 1)).astype(np.float32)
    obs = env.reset(4)
    stories: list[list[tuple]] = [[("first", as_list(obs, n))] for n in range(NUM_ENVS)]
    taken = np.zeros(NUM_ENVS, int)
    is_valid = np.ones(NUM_ENVS, bool)
    for _ in range(NUM_STEPS):
        step = env.step(action_at[np.arange(NUM_ENVS), taken])
        taken += is_valid  # a row that only resets ignores its action
        valid = np.ones(NUM_ENVS, bool) if step.valid is None else step.valid
        np.testing.assert_array_equal(valid, is_valid)
        ended = step.terminated | step.truncated
        assert (step.final_obs is not None) == ended.any()
        assert step.reward.dtype == np.float32
        order = np.cumsum(ended) - 1
        for n, story in enumerate(stories):
            if not valid[n]:
                assert not ended[n]
                story.append(("first", as_list(step.obs, n)))
                continue
            true_next = as_list(step.final_obs, order[n]) if ended[n] else as_list(step.obs, n)
            story.append(
                (step.reward[n].item(), step.terminated[n].item(), step.truncated[n].item(), true_next)
            )
            if ended[n] and step.valid is None:
                story.append(("first", as_list(step.obs, n)))
        is_valid = ~ended if step.valid is not None else is_valid
    env.close()
    return stories


def by_hand() -> list[list[tuple]]:
    """The slow obvious twin: single environments in a plain loop."""
    action_at = np.random.default_rng(0).uniform(-1.5, 1.5, (NUM_ENVS, NUM_STEPS, 1)).astype(np.float32)
    stories = []
    for n in range(NUM_ENVS):
        toy = Toy()
        story: list[tuple] = [("first", toy.reset(seed=4 + n)[0].tolist())]
        for t in range(NUM_STEPS):
            obs, reward, terminated, truncated, _ = toy.step(action_at[n, t].clip(-1, 1))
            obs = obs.astype(np.float32).tolist()
            story.append((np.float32(reward).item(), terminated, truncated, obs))
            if terminated or truncated:
                story.append(("first", toy.reset()[0].tolist()))
        stories.append(story)
    return stories


def assert_same_stories(some: list[list[tuple]], others: list[list[tuple]]) -> None:
    for one, other in zip(some, others, strict=True):
        length = min(len(one), len(other))
        assert length > 35
        assert one[:length] == other[:length]


@pytest.mark.parametrize("autoreset", ["same_step", "next_step", "disabled"])
def test_autoreset_modes_equal_a_plain_loop(autoreset: str) -> None:
    story = play(make_vector_env(Toy, NUM_ENVS, autoreset=autoreset))
    assert_same_stories(story, by_hand())
    ends = [(event[1], event[2]) for event in story[0] if len(event) == 4 and (event[1] or event[2])]
    assert ends[:4] == [(False, True), (True, False)] * 2  # truncated after 5, terminated after 7


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_native_batches_equal_a_plain_loop(mode: AutoresetMode) -> None:
    def batch(num_envs: int) -> Batch:
        return Batch(num_envs, mode)

    assert_same_stories(play(make_vector_env(batch, NUM_ENVS)), by_hand())


def test_nested_observations_are_the_same_in_all_modes() -> None:
    kwargs = {"nested": True}
    same, following, disabled = (
        play(make_vector_env(Toy, NUM_ENVS, env_kwargs=kwargs, autoreset=mode))
        for mode in ("same_step", "next_step", "disabled")
    )
    assert_same_stories(same, following)
    assert_same_stories(same, disabled)
    assert same[0][1][3] == {
        "deep": {"x": pytest.approx([0, 1, same[0][1][3]["deep"]["x"][2]]), "kind": 0},
        "time": 1,
    }


def test_processes_tell_the_same_story() -> None:
    assert_same_stories(play(make_vector_env(Toy, NUM_ENVS, vectorization="async")), by_hand())


def test_dtypes_and_fresh_arrays() -> None:
    env = make_vector_env(Toy, 2, env_kwargs={"nested": True})
    first = env.reset(0)
    step = env.step(np.zeros((2, 1), np.float32))
    assert first["deep"]["x"].dtype == np.float32
    assert first["time"].dtype == first["deep"]["kind"].dtype == np.int64
    assert first["time"].tolist() == [0, 0]  # not overwritten by the step
    assert step.obs["time"].tolist() == [1, 1]
    assert step.terminated.dtype == step.truncated.dtype == bool
    assert step.valid is None
    assert step.metrics == {}


def test_metrics_belong_to_the_transition_that_ended() -> None:
    for autoreset in ("same_step", "next_step", "disabled"):
        env = make_vector_env(Toy, 2, record=("time", "success"), autoreset=autoreset)
        env.reset(0)  # episodes of 5 and 7 steps
        history = [env.step(np.zeros((2, 1), np.float32)).metrics for _ in range(6)]
        assert [m["time"][0].item() for m in history[:5]] == [1, 2, 3, 4, 5]  # not -1, the one of the reset
        assert [m["time"][1].item() for m in history] == [1, 2, 3, 4, 5, 6]
        success = np.stack([m["success"] for m in history])
        assert success.dtype == np.float32
        assert success[4, 0] == 1.0
        assert np.isnan(np.delete(success[:, 0], 4)).all()
        after = history[5]["time"][0]
        assert np.isnan(after) if autoreset == "next_step" else after == 1.0


def test_metric_that_is_never_reported() -> None:
    env = make_vector_env(Toy, 1, record=("sucess",))
    env.reset(0)
    for _ in range(4):
        env.step(np.zeros((1, 1), np.float32))
    with pytest.warns(
        UserWarning, match=r"\['sucess'\] was not in info .* \['label', 'length_squared', 'success', 'time'\]"
    ):
        step = env.step(np.zeros((1, 1), np.float32))
    assert np.isnan(step.metrics["sucess"]).all()
    for _ in range(7):
        env.step(np.zeros((1, 1), np.float32))  # which says so once


@pytest.mark.parametrize("autoreset", ["same_step", "next_step", "disabled"])
def test_copies_report_values_of_different_types(autoreset: Any) -> None:
    """Gymnasium keeps all copies in the type of the first, so that 0.75 beside 0 became 0."""
    told = iter(
        [
            [{"x": 0, "note": "a", "y": True}, {"x": 0.75, "note": "longer", "y": 2}, {"x": 3, 7: "number"}],
            [{"note": np.zeros(2)}, {"x": np.uint8(250), "note": np.zeros(3)}, {"x": -1, "note": {"a": 1}}],
            [{"note": {"a": 1}}, {"note": "text", "x": np.array(0.5)}, {"note": [1], "other": None}],
        ]
    )
    row: list[Any] = []

    class Teller(Toy):
        def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
            answer = super().step(action)
            return (*answer[:4], row.pop(0))

    env = make_vector_env(Teller, 3, record=("x", "y"), autoreset=autoreset)
    env.reset(0)
    seen = []
    for infos in told:
        row[:] = infos
        seen.append(env.step(np.zeros((3, 1), np.float32)).metrics)
    nan = float("nan")
    np.testing.assert_array_equal([m["x"] for m in seen], [[0, 0.75, 3], [nan, 250, -1], [nan, 0.5, nan]])
    np.testing.assert_array_equal(seen[0]["y"], [1, 2, nan])


@pytest.mark.parametrize("name", ["length_squared", "label"])
def test_metric_that_is_not_a_number(name: str) -> None:
    env = make_vector_env(Toy, 2, record=(name,))
    env.reset(0)
    with pytest.raises(ValueError, match=f"record='{name}' must be one number per environment"):
        env.step(np.zeros((2, 1), np.float32))


def test_action_of_another_shape() -> None:
    env = make_vector_env(Toy, 2)
    env.reset(0)
    with pytest.raises(ValueError, match=r"action must have shape \(2, 1\) .* got \(2,\)"):
        env.step(np.zeros(2, np.float32))


@pytest.mark.parametrize("metadata", [{}, {"autoreset_mode": "sometimes"}])
def test_unknown_autoreset_is_refused(metadata: dict) -> None:
    batch = Batch(2, AutoresetMode.NEXT_STEP)
    batch.metadata = metadata
    with pytest.raises(
        ValueError, match=r"autoreset_mode'\] of Batch must be one of NextStep, SameStep, Disabled, got"
    ):
        GymnasiumVectorEnv(batch, "toy")


def test_same_step_without_final_obs_is_refused() -> None:
    batch = Batch(2, AutoresetMode.NEXT_STEP)
    batch.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
    env = GymnasiumVectorEnv(batch, "toy")
    env.reset(0)
    for _ in range(4):
        env.step(np.zeros((2, 1), np.float32))
    with pytest.raises(ValueError, match=r"same-step autoreset needs .* info\['final_obs'\]"):
        env.step(np.zeros((2, 1), np.float32))


def test_frame_of_environment_0() -> None:
    for vectorization in ("sync", "async"):
        env = make_vector_env(Toy, 2, render=True, vectorization=vectorization)
        env.reset(0)
        env.step(np.zeros((2, 1), np.float32))
        assert env.frame().tolist() == np.full((2, 3, 3), 1).tolist()
        env.close()
    with pytest.raises(ValueError, match=r"frame\(\) needs environments made with render=True"):
        make_vector_env(Toy, 2).frame()

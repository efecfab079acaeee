"""Alice and Bob: one must stand on a button while the other stands on its diamond, for two such pairs.

The environment of HMASD (Yang et al. 2023, NeurIPS, "Hierarchical Multi-Agent Skill Discovery"), batched.

Axes: N environments, E chosen environments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_rl.arguments import Copies, check_arguments
from lit_rl.types import IS_SUCCESS, ActionSpec, EnvSpec, LeafSpec, Step

AGENTS = ("alice", "bob")
METRICS = ("battle_won", "key0", "key1", IS_SUCCESS)
SIDE = 10
TIME_LIMIT = 100
FREE, WALL, ALICE, BOB = range(4)
BUTTONS = np.array([18, 11])  # cell (x, y) of the grid has the index SIDE * x + y
DIAMONDS = np.array([81, 88])  # diamond i belongs to button i: opposite corners

_OBJECTS = np.concatenate([BUTTONS, DIAMONDS])
_OBJECT_CODES = np.array([4, 5, 6, 7], np.int8)
_MOVES = np.array([1, -1, -SIDE, SIDE, 0])  # +y, -y, -x, +x, stay
_AROUND = (np.arange(-1, 2)[:, None] * SIDE + np.arange(-1, 2)).ravel()  # 3 x 3 cells, x first


def _empty_grid() -> np.ndarray:
    """Return the codes ``(100,)`` of walls, buttons and diamonds."""
    grid = np.full((SIDE, SIDE), WALL, np.int8)
    grid[1:-1, 1:-1] = FREE
    grid.reshape(-1)[_OBJECTS] = _OBJECT_CODES
    return grid.reshape(-1)


_EMPTY = _empty_grid()
_INSIDE = np.flatnonzero(_EMPTY != WALL)  # (64,), all cells where an agent may stand
_TARGET = np.clip(np.arange(SIDE**2)[:, None] + _MOVES, 0, SIDE**2 - 1)
_NEXT = np.where(_EMPTY[_TARGET] == WALL, np.arange(SIDE**2)[:, None], _TARGET)  # (100, 5), walls block
_XY = np.stack(np.divmod(np.arange(SIDE**2), SIDE), -1)  # (100, 2)
_ONE_HOT_CODE = np.eye(8, dtype=np.float32)
_ONE_HOT_XY = np.eye(SIDE, dtype=np.float32)[_XY][..., 1:-1].reshape(SIDE**2, 16)
_ONE_HOT_CELL = np.eye(SIDE**2, dtype=np.float32)[:, _INSIDE]  # (100, 64)


class AliceAndBob:
    """N copies of the two-agent grid of 10 x 10 cells with a wall around it; 8 x 8 cells are free.

    - Buttons stand at (1, 8) and (1, 1), their diamonds at (8, 1) and (8, 8). Alice and Bob start on two
      different free cells, drawn uniformly, perhaps on a button or diamond; later they may share a cell.
    - Actions: 0 is +y, 1 is -y, 2 is -x, 3 is +x, 4 is stay; walls block.
    - After the move diamond i is *reached*, for the rest of the episode, if some agent is on button i and
      some agent on diamond i. A reached diamond vanishes once nobody stands on it.
    - Reward: 1 for the team when both diamonds are reached, else 0. The episode then terminates; it is
      truncated after 100 steps.
    - Observation (11): codes of the 3 x 3 cells around the agent (0 free, 1 wall, 2 Alice, 3 Bob, 4 and 5
      buttons, 6 and 7 diamonds), then its own x and y. State (100): the codes of all cells.

    As in the authors' code Alice moves first, and a cell that an agent leaves is drawn free even when the
    other one stands on it: that one is not seen until it moves.

    Args:
        num_envs: Number N of environments.
        one_hot: Whether observations are zeros and ones instead of codes. An observation (88) is then 9 cells
            x 8 codes, x and y out of 8 each; the state (130) Alice's cell out of 64, Bob's cell out of 64,
            and which diamonds are reached.
        record: Names among ``battle_won`` (equally ``is_success``: both reached), ``key0`` and ``key1`` (the
            first, the second reached). They are reported at the last step of an episode, NaN before it.

    Raises:
        ValueError: ``num_envs`` is below 1, or ``record`` has an unknown name.
    """

    def __init__(self, num_envs: Copies, one_hot: bool = False, record: Sequence[str] = ()) -> None:
        check_arguments(AliceAndBob, locals())
        if unknown := [name for name in record if name not in METRICS]:
            raise ValueError(f"AliceAndBob: record has {unknown}; it reports {', '.join(METRICS)}")
        self.num_envs, self.one_hot, self.record = num_envs, one_hot, tuple(record)
        features, state = (88, 130) if one_hot else (11, 100)
        observation = {"observation": LeafSpec([features])}
        action = ActionSpec("discrete", categories=[len(_MOVES)])
        self.spec = EnvSpec("AliceAndBob", observation, action, list(AGENTS), state)
        self._seed = np.zeros(num_envs, np.int64)
        self._episode = np.zeros(num_envs, np.int64)
        self._t = np.zeros(num_envs, np.int64)
        self._cell = np.zeros((num_envs, 2), np.int64)
        self._reached = np.zeros((num_envs, 2), bool)
        self._grid = np.tile(_EMPTY, (num_envs, 1))

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Start new episodes; environment i is seeded with ``seed + i``."""
        self._seed[:] = seed + np.arange(self.num_envs)
        self._episode[:] = 0
        everything = np.arange(self.num_envs)
        self.restart(everything)
        return self.observe(everything)

    def restart(self, rows: np.ndarray) -> None:
        """Begin the next episode of environments ``rows`` ``(E,)``."""
        alice, bob = _start_cells(self._seed[rows], self._episode[rows])
        self._episode[rows] += 1
        self._t[rows] = 0
        self._reached[rows] = False
        self._cell[rows] = np.stack([alice, bob], -1)
        self._grid[rows] = _EMPTY
        self._grid[rows, alice] = ALICE
        self._grid[rows, bob] = BOB

    def step(self, action: np.ndarray) -> Step:
        """Apply ``action`` ``(N, 2)``.

        Raises:
            ValueError: ``action`` has another shape, or an entry that is not 0 to 4.
        """
        if action.shape != self._cell.shape:
            raise ValueError(f"AliceAndBob: action must have shape {self._cell.shape}, got {action.shape}")
        if action.min() < 0 or action.max() >= len(_MOVES):
            raise ValueError(f"AliceAndBob: actions are 0 to 4, got {action.min()} to {action.max()}")
        for agent in range(2):
            self._move(agent, action[:, agent])
        self._update_objects()
        self._t += 1
        terminated = self._reached[:, 0] & self._reached[:, 1]
        truncated = (self._t == TIME_LIMIT) & ~terminated
        metrics = self._metrics(terminated, terminated | truncated) if self.record else {}
        ended = np.flatnonzero(terminated | truncated)
        final_obs = None
        if len(ended):
            final_obs = self.observe(ended)
            self.restart(ended)
        obs = self.observe(slice(None))
        return Step(obs, terminated.astype(np.float32), terminated, truncated, final_obs, None, metrics)

    def _move(self, agent: int, action: np.ndarray) -> None:
        before = self._cell[:, agent]
        after = _NEXT[before, action]
        moved = np.flatnonzero(before != after)
        self._grid[moved, before[moved]] = FREE
        self._grid[moved, after[moved]] = ALICE + agent
        self._cell[:, agent] = after

    def _update_objects(self) -> None:
        """Latch the diamonds reached, and draw the objects nobody stands on."""
        alice, bob = self._cell[:, :1], self._cell[:, 1:]
        occupied = (alice == _OBJECTS) | (bob == _OBJECTS)  # (N, 4)
        self._reached |= occupied[:, :2] & occupied[:, 2:]
        codes = np.tile(_OBJECT_CODES, (self.num_envs, 1))
        codes[:, 2:][self._reached] = FREE
        self._grid[:, _OBJECTS] = np.where(occupied, self._grid[:, _OBJECTS], codes)

    def observe(self, rows: np.ndarray | slice) -> dict[str, np.ndarray]:
        """Return what the agents of environments ``rows`` see now."""
        grid, cell = self._grid[rows], self._cell[rows]
        first = np.arange(len(grid))[:, None] * SIDE**2  # start of each grid when all lie in one row
        window = grid.reshape(-1).take((first + cell)[..., None] + _AROUND)  # (N, 2, 9)
        if not self.one_hot:
            observation = np.empty((len(grid), 2, 11), np.float32)
            observation[..., :9] = window
            observation[..., 9:] = _XY[cell]
            return {"observation": observation, "state": grid.astype(np.float32)}
        codes = _ONE_HOT_CODE[window].reshape(len(grid), 2, 72)
        cells = _ONE_HOT_CELL[cell].reshape(len(grid), 128)
        reached = self._reached[rows].astype(np.float32)
        return {
            "observation": np.concatenate([codes, _ONE_HOT_XY[cell]], -1),
            "state": np.concatenate([cells, reached], -1),
        }

    def _metrics(self, won: np.ndarray, ended: np.ndarray) -> dict[str, np.ndarray]:
        values = {
            "battle_won": won,
            "key0": self._reached[:, 0],
            "key1": self._reached[:, 1],
            IS_SUCCESS: won,
        }
        return {name: np.where(ended, values[name], np.float32(np.nan)) for name in self.record}

    def picture(self, env: int) -> dict[str, Any]:
        """Say where the agents of one environment are, so that a report can draw it; cells are ``[x, y]``."""
        return {
            "kind": "alice_and_bob",
            "side": SIDE,
            "buttons": _XY[BUTTONS].tolist(),
            "diamonds": _XY[DIAMONDS].tolist(),
            "agents": _XY[self._cell[env]].tolist(),
            "reached": self._reached[env].tolist(),
            "step": int(self._t[env]),
        }

    def get_state(self) -> dict[str, Any]:
        """Return everything that this episode and the later ones depend on, as tensors."""
        import torch

        return {name: torch.from_numpy(value.copy()) for name, value in self._arrays().items()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned, bit for bit.

        Raises:
            ValueError: The state is of another number of environments.
        """
        if len(state["t"]) != self.num_envs:
            raise ValueError(
                f"AliceAndBob: the state is of num_envs={len(state['t'])}, there are num_envs={self.num_envs}"
            )
        for name, array in self._arrays().items():
            array[:] = state[name].numpy()

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            "seed": self._seed,
            "episode": self._episode,
            "t": self._t,
            "cell": self._cell,
            "reached": self._reached,
            "grid": self._grid,
        }

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def _start_cells(seed: np.ndarray, episode: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw two different free cells, each ``(E,)``, from seed and number of the episode alone.

    It is number ``episode`` of the SplitMix64 stream (Steele 2014) that starts at the mixed seed.
    """
    number = _mix(_mix(seed.astype(np.uint64)) + (episode.astype(np.uint64) + 1) * 0x9E3779B97F4A7C15)
    alice, bob = np.divmod((number % (64 * 63)).astype(np.int64), 63)
    return _INSIDE[alice], _INSIDE[bob + (bob >= alice)]


def _mix(x: np.ndarray) -> np.ndarray:
    """Map 64 bit integers one to one, so that every bit of ``x`` changes half of the result."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)

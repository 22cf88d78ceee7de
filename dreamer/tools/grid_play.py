"""What chance and what the best possible play get in tasks of MiniGrid: the two ends of an agent's scale (lesson 7).

The best play is found by breadth-first search over everything that can change: where the agent stands and looks, which
key it carries, which keys have been picked up and which doors have been opened. It knows the whole grid, which the
agent does not: an agent that has to look for the goal first cannot reach this mark.
"""

from collections import deque

import numpy as np

from ..training.envs import TaskError, make

TURN_LEFT, TURN_RIGHT, FORWARD, PICKUP, TOGGLE = 0, 1, 2, 3, 5      # actions of MiniGrid


def episode_seeds(seed, episodes):
    """Seeds of the resets of `Environments(env_id, episodes, seed)`, and so of its first episodes: a list."""
    return [int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) for number in range(episodes)]


def random_returns(env_id, seeds):
    """Returns of episodes with uniformly random actions, a list; the actions follow from the seed of the episode."""
    env, returns = make(env_id), []
    for seed in seeds:
        draw, total, over = np.random.default_rng(seed), 0.0, False
        env.reset(seed=seed)
        while not over:
            _, reward, terminated, truncated, _ = env.step(int(draw.integers(env.action_space.n)))
            total, over = total + reward, terminated or truncated
        returns.append(total)
    env.close()
    return returns


def optimal_returns(env_id, seeds):
    """Returns of the best play in the episodes of these seeds, 0 if the goal is too far: a list. Raises TaskError."""
    env, returns = make(env_id), []
    for seed in seeds:
        env.reset(seed=seed)
        steps = len(shortest_plan(env.unwrapped))
        returns.append(1 - 0.9 * steps / env.unwrapped.max_steps if steps <= env.unwrapped.max_steps else 0.0)
    env.close()
    return returns


def shortest_plan(env):
    """Actions from the state that `env`, a MiniGridEnv, is in to the goal. Raises TaskError if there is no way."""
    unknown = (f"{type(env).__name__}: this search finds no way to a goal; it knows walls, doors, keys and lava that "
               "stay where they are (lesson 2 takes any task)")
    if getattr(env, "obstacles", None):                     # balls that roll about
        raise TaskError(unknown)
    start = tuple(env.agent_pos), int(env.agent_dir), None, frozenset()
    came_from, waiting = {start: None}, deque([start])
    while waiting:
        state = waiting.popleft()
        for action, following in moves(env.grid, state):
            if following in came_from:
                continue
            came_from[following] = state, action
            if kind(env.grid.get(*following[0])) == "goal":
                return retrace(came_from, following)
            waiting.append(following)
    raise TaskError(unknown)


def kind(thing):
    return thing.type if thing else "empty"


def moves(grid, state):
    """(action, state after it) for all that changes something. state: position, direction, colour of the key that is
    carried (or None), and the places of keys that were picked up and doors that were opened."""
    (x, y), direction, key, changed = state
    yield TURN_LEFT, ((x, y), (direction - 1) % 4, key, changed)
    yield TURN_RIGHT, ((x, y), (direction + 1) % 4, key, changed)
    ahead = x + (1, 0, -1, 0)[direction], y + (0, 1, 0, -1)[direction]
    if not (0 <= ahead[0] < grid.width and 0 <= ahead[1] < grid.height):        # through a door in the outer wall
        return
    thing = grid.get(*ahead)
    what = kind(thing)
    passable = what in ("empty", "floor", "goal") or (what == "door" and thing.is_open) or ahead in changed
    if passable:
        yield FORWARD, (ahead, direction, key, changed)
    elif what == "key" and key is None:
        yield PICKUP, ((x, y), direction, thing.color, changed | {ahead})
    elif what == "door" and (not thing.is_locked or key == thing.color):
        yield TOGGLE, ((x, y), direction, key, changed | {ahead})


def retrace(came_from, state):
    plan = []
    while came_from[state]:
        state, action = came_from[state]
        plan.append(action)
    return plan[::-1]

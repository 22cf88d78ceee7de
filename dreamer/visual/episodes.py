"""Whole episodes, recorded row by row, and what the agent's latents are along them."""

from dataclasses import dataclass

import numpy as np
import torch

from ..training.evaluate import play


@dataclass
class Episode:
    """L + 1 rows of one real episode, aligned as in the replay buffer: row t is what was known on arrival."""
    obs: dict                   # of (L+1, ...)
    prev_action: torch.Tensor   # (L+1, A): the action that led here, zeros in row 0
    reward: torch.Tensor        # (L+1,): received on arriving here, 0 in row 0
    is_terminal: torch.Tensor   # (L+1,) bool

    def __len__(self):
        return len(self.reward)

    @property
    def score(self):
        return float(self.reward.sum())


def record(agent, env_id, episodes, seed, greedy=True, longest=None):
    """Play fresh episodes (agent None: random actions) and keep them: a list of Episode.

    longest: stop after so many steps, whatever is still running (None: play to the end).
    """
    rows = [[] for _ in range(episodes)]
    for count, step in enumerate(play(agent, env_id, episodes, seed, greedy)):
        for i in np.flatnonzero(step["running"]):
            if not rows[i]:
                rows[i].append(({k: v[i] for k, v in step["obs"].items()}, torch.zeros_like(step["action"][i]), 0.0, False))
            next_obs = {k: v[i] for k, v in step["next_obs"].items()}
            rows[i].append((next_obs, step["action"][i], float(step["reward"][i]), bool(step["terminal"][i])))
        if longest and count + 1 >= longest:
            break
    return [stack(r) for r in rows]


def stack(rows):
    obs, action, reward, terminal = zip(*rows)
    return Episode({k: torch.as_tensor(np.stack([o[k] for o in obs])) for k in obs[0]},
                   torch.stack(action), torch.tensor(reward), torch.tensor(terminal))


@torch.no_grad()
def observe(agent, obs, prev_action, draw):
    """The posterior along rows (M, L, ...) from the zero state on: deter, stoch and raw logits."""
    world, (count, length) = agent.world_model, prev_action.shape[:2]
    first = torch.zeros(count, length, dtype=torch.bool)
    return world.rssm.observe(world.encoder(world.see(obs)), prev_action, first, world.rssm.initial(count), draw)


def latents(agent, episode, draw):
    """The posterior along one episode: deter (L+1, D), stoch (L+1, S, C)."""
    obs = {key: value.unsqueeze(0) for key, value in episode.obs.items()}
    deter, stoch, _ = observe(agent, obs, episode.prev_action.unsqueeze(0), draw)
    return deter[0], stoch[0]

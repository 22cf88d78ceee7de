"""Evaluation: fresh episodes in environments of their own, without touching the training run."""

import numpy as np
import torch

from ..distributions import Draw
from .envs import Environments


LONGEST = 108_000       # steps after which an episode that does not end is counted as it stands


@torch.no_grad()
def evaluate(agent, env_id, episodes, seed, greedy, device="cpu"):
    """Play `episodes` fresh episodes side by side, exactly one in each environment.

    One each, because the first `episodes` to end would be the short ones. Returns a list of
    undiscounted returns. Greedy takes the actor's mode; the latents are sampled either way.
    `draw` and environments are its own: training goes on as if nothing had happened.
    """
    envs = Environments(env_id, episodes, seed)
    draw = Draw(torch.Generator(device).manual_seed(seed))
    state = agent.world_model.rssm.initial(episodes)
    action = torch.zeros(episodes, envs.actions, device=device)
    first, running = np.ones(episodes, dtype=bool), np.ones(episodes, dtype=bool)
    returns = np.zeros(episodes)
    obs = envs.reset()
    for _ in range(LONGEST):
        seen = {k: torch.as_tensor(v, device=device) for k, v in obs.items()}
        action, state = agent.act(seen, state, action, torch.as_tensor(first, device=device), draw, greedy)
        obs, reward, _, last = envs.step(action.cpu().numpy())
        returns += reward * running
        running &= ~last
        first = last
        if not running.any():
            break
        if last.any():
            obs = envs.reset(last)
    envs.close()
    return returns.tolist()

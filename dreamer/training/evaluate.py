"""Evaluation: fresh episodes in environments of their own, without touching the training run."""

import numpy as np
import torch

from ..config import Config
from ..distributions import Draw
from .collect import hold_or_draw
from .envs import Environments

LONGEST = 108_000       # steps after which an episode that does not end is counted as it stands
PROCESSES = 32          # most of one evaluation


@torch.no_grad()
def play(agent, env_id, episodes, seed, greedy=True, device="cpu", render=False, asynchronous=False, timeout=0):
    """Play `episodes` fresh episodes side by side, exactly one in each environment; yield every step.

    One each, because the first `episodes` to end would be the short ones. Greedy takes the actor's mode;
    the latents are sampled either way. `draw` and environments are its own: training goes on as if
    nothing had happened. agent None: the random actions of the prefill.

    Yields dicts: obs (what was seen), action (N, A), reward (N,), next_obs, terminal, last (N,) bool
    and running (N,): whether this step still belongs to the environment's one episode; if `render`, also
    pictures, what each environment draws of next_obs. asynchronous: a process for each of up to PROCESSES
    environments, which pays where they draw.
    """
    envs = Environments(env_id, episodes, seed, asynchronous and episodes <= PROCESSES, timeout, "rgb_array" if render else None)
    draw = Draw(torch.Generator(device).manual_seed(seed))
    state = agent.world_model.rssm.initial(episodes) if agent else None
    action = torch.zeros(episodes, envs.actions, device=device) if agent else None
    running, first = np.ones(episodes, dtype=bool), np.ones(episodes, dtype=bool)
    try:
        obs = envs.reset()
        for _ in range(LONGEST):
            if agent:
                seen = {k: torch.as_tensor(v, device=device) for k, v in obs.items()}
                action, state = agent.act(seen, state, action, torch.as_tensor(first, device=device), draw, greedy)
            else:
                action = hold_or_draw(action, envs, Config.hold, draw.generator)
            next_obs, reward, terminal, last = envs.step(action.cpu().numpy())
            yield {"obs": obs, "action": action.cpu(), "reward": reward, "next_obs": next_obs,
                   "terminal": terminal, "last": last, "running": running.copy(),
                   **({"pictures": envs.pictures()} if render else {})}
            running &= ~last
            first = last
            if not running.any():
                break
            obs = envs.reset(last) if last.any() else next_obs
    except GeneratorExit:               # whoever looked on has seen enough
        pass
    except BaseException:
        envs.close(interrupted=True)
        raise
    envs.close()


def evaluate(agent, env_id, episodes, seed, greedy, device="cpu", asynchronous=False, timeout=0):
    """Undiscounted returns of `episodes` fresh episodes, a list (see `play`)."""
    returns = np.zeros(episodes)
    for step in play(agent, env_id, episodes, seed, greedy, device, False, asynchronous, timeout):
        returns += step["reward"] * step["running"]
    return returns.tolist()


def decimals(*returns):
    """Decimals for means of these lists of returns: three where none exceeds 1, as in MiniGrid, else one."""
    return 3 if max(abs(x) for found in returns for x in found) <= 1 else 1

"""One part of the algorithm switched off at a time: what does each of them do here? (lesson 7)

`configure` changes hyperparameters, `remove` the parts of a learner; between them they know every name in WITHOUT.
Parameters, first predictions and all that is not named stay as they are.

    memory          nothing older than one step: the posterior sees the observation alone, and h is made of the latents
                    and the action of the step before, in dreams and in reality
    symlog          bins of reward and value evenly spaced over -20 ... 20, instead of by symexp
    two-hot         reward and value are one number each, its symlog fitted by squared error
    floor           advantages divided by the range of returns, however small it is, not by its floor at least
    normalisation   advantages not divided at all
    free-nats       the KL losses push down to 0
    balance         prior and posterior pulled towards each other alike, by 5.5 each, not by 10 and 1
    reconstruction  latents that only have to tell reward and end of the episode
"""

from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F

from ..behavior import actor_critic
from ..distributions import symexp, symlog
from ..training.validate import ConfigError, suggestion

HYPERPARAMETERS = {     # of a configuration: what is another in it without the part
    "free-nats": lambda config: {"free_nats": 0.0}, "reconstruction": lambda config: {"beta_rec": 0.0},
    "balance": lambda config: dict.fromkeys(("beta_dyn", "beta_rep"), (config.beta_dyn + config.beta_rep) / 2)}
LIMIT = 20.0            # the bins reach from symexp(-20) to symexp(20), evenly spaced ones from -20 to 20
SMALLEST = 1e-8         # by which an advantage is divided without the floor: a range of 0 would be no number


def configure(config, name):
    """`config` without the part `name`, if that part is a matter of hyperparameters. Raises ConfigError."""
    if name not in WITHOUT:
        raise ConfigError(f"--without must be one of {', '.join(WITHOUT)}, not {name}{suggestion(name, WITHOUT)}")
    return replace(config, **HYPERPARAMETERS[name](config)) if name in HYPERPARAMETERS else config


@contextmanager
def remove(name, learner):
    """`learner`, agent and average, without the part `name`; the losses of this process, while the context lasts.

    Its checkpoints can only be read by an agent without the same part.
    """
    part, critic_loss = PARTS.get(name), actor_critic.critic_loss
    if part:
        for agent in (learner.agent, learner.average):
            part(agent)
            agent.register_buffer(f"without_{name.replace('-', '_')}", torch.zeros(0, device=learner.device))
    if name == "two-hot":
        actor_critic.critic_loss = squared_critic_loss
    try:
        yield learner
    finally:
        actor_critic.critic_loss = critic_loss


# ------------------------------------------------------------------ memory

def forget(agent):
    """Zero h before every step. What else would carry the past is z, and the posterior does not see it."""
    rssm = agent.world_model.rssm
    core = type(rssm).core

    def forgetful_core(deter, stoch, action, weights):
        return core(rssm, torch.zeros_like(deter), stoch, action, weights)

    def observe(tokens, prev_action, is_first, state, draw):
        x = torch.cat([tokens.new_zeros(*tokens.shape[:2], rssm.deter), tokens], -1)            # (B, T, D + E)
        logits = rssm.post_logits(rssm.post_hidden(x)).unflatten(-1, (rssm.stoch, rssm.classes))
        stoch = rssm.sample(logits, draw)                                                       # (B, T, S, C)
        keep = (~is_first).float().unsqueeze(-1)                                                # (B, T, 1)
        before = torch.cat([state[1].unsqueeze(1), stoch[:, :-1]], 1) * keep.unsqueeze(-1)
        action = rssm.embed_action(prev_action * keep)
        deter = rssm.core(tokens.new_zeros(before[..., 0, 0].numel(), rssm.deter), before.flatten(0, 1),
                          action.flatten(0, 1), rssm.prepare())
        return deter.unflatten(0, before.shape[:2]), stoch, logits

    rssm.core, rssm.observe = forgetful_core, observe


# ------------------------------------------------------------------ how reward and value are predicted

def heads(agent):
    return agent.world_model.reward, agent.critic, agent.slow_critic


def space_evenly(agent):
    for head in heads(agent):
        half = torch.linspace(-LIMIT, 0, len(head.bins) // 2 + 1, device=head.bins.device)
        head.bins = torch.cat([half, -half[:-1].flip(0)])


def regress(agent):
    """The first of the K outputs is symlog of the prediction, which may go as far as the bins; the others are idle."""
    for head in heads(agent):
        head.mean = lambda logits: symexp(logits[..., 0].clamp(-LIMIT, LIMIT))
        head.loss = lambda logits, target: (logits[..., 0] - symlog(target)) ** 2


def squared_critic_loss(logits, target, slow_value, bins, slow_regulariser=1.0):
    """In place of `critic_loss`: (..., K), (...), (...) -> (...). The bins are not used."""
    near, slow = (F.mse_loss(logits[..., 0], symlog(x.detach()), reduction="none") for x in (target, slow_value))
    return near + slow_regulariser * slow


# ------------------------------------------------------------------ the scale of advantages

def lower_floor(agent):
    agent.return_norm.limit = SMALLEST


def keep_scale(agent):
    norm = agent.return_norm
    update = type(norm).update

    def follow_and_forget(returns):
        update(norm, returns)           # the range is still followed, to look at
        return torch.ones_like(norm.range[0])
    norm.update = follow_and_forget


PARTS = {"memory": forget, "symlog": space_evenly, "two-hot": regress, "floor": lower_floor,
         "normalisation": keep_scale}
WITHOUT = ("memory", "symlog", "two-hot", "floor", "normalisation", "free-nats", "balance", "reconstruction")

"""Step 9: what the dream teaches: the losses of actor and critic, functions of head outputs.

Everything here is a function of tensors, time first, so that each number can be checked by hand. Only `norm` is
changed: every call of `dream_losses` moves its percentiles.
"""

import torch

from ..distributions import twohot_code
from .returns import lambda_return


def critic_loss(logits, target, slow_value, bins, slow_regulariser=1.0):
    """Two-hot cross-entropy with the return, plus one with the slow critic's mean (Eq. 5).

    logits (..., K); target and slow_value (...) -> (...). The critic bootstraps from itself, so
    an average of its own past is a second target, of the same weight, that keeps it from running away.
    """
    # Both targets in one pass over the K logits: two calls of twohot_loss would read them twice.
    index, weights = twohot_code(target, bins)
    slow_index, slow_weights = twohot_code(slow_value, bins)
    index = torch.cat([index, slow_index], -1)                                      # (..., 4)
    weights = torch.cat([weights, slow_regulariser * slow_weights], -1)             # (..., 4)
    return -(logits.log_softmax(-1).gather(-1, index) * weights).sum(-1)


def dream_losses(reward, continues, value, slow_value, policy, action, value_logits, bins, norm,
                 lam, entropy_scale, slow_regulariser=1.0):
    """Losses of actor and critic in N dreams of H steps. Time is the first axis: states 0 ... H.

    reward, continues, value (H+1, N): predicted *on arrival* in each state; continues includes
    the discount (in state 0: 1 or 0, what the data say), value is the critic's mean. slow_value
    (H, N), policy and action (H, N, A), value_logits (H, N, K): at the states in which the dreamer
    acts, all but the last. bins (K,); norm: the ReturnNorm that gives S; lam: lambda; entropy_scale: eta.
    Returns policy loss (H, N), value loss (H, N), returns (H, N) and a dict of metrics.
    """
    # R_t, Eq. 5: the online critic bootstraps, the slow one does not.
    returns = lambda_return(reward, 1 - continues, torch.zeros_like(reward), value, 1.0, lam)   # (H, N)
    # Probability that the dream is still alive *at* t, discounted; one that starts in a terminal state never is.
    alive = continues.cumprod(0)                                            # (H+1, N)
    weight = alive[:-1]                                                     # (H, N)
    scale = norm.update(returns)                                            # S, ()
    advantage = (returns - value[:-1]) / scale                              # (H, N)
    # Eq. 6, REINFORCE: make an action likelier by as much as it was better than the critic expected (its
    # advantage), with a bonus for entropy; for discrete and continuous actions alike.
    entropy = policy.entropy()                                              # (H, N)
    policy_loss = -weight * (policy.log_prob(action) * advantage + entropy_scale * entropy)
    value_loss = weight * critic_loss(value_logits, returns, slow_value, bins, slow_regulariser)
    normed = (returns - norm.range[0]) / scale                              # only to look at
    metrics = {"return_mean": returns.mean(), "return_scale": scale, "value_mean": value.mean(),
               "return_normed_mean": normed.mean(), "return_beyond": (normed.abs() >= 1).float().mean(),
               "advantage_mean": advantage.mean(), "advantage_std": advantage.std(),
               "alive_mean": alive.mean(), "entropy": entropy.detach().mean()}
    return policy_loss, value_loss, returns, metrics


def replay_value_loss(reward, is_terminal, is_last, bootstrap, value_logits, slow_value, bins,
                      discount, lam, slow_regulariser=1.0):
    """The critic's loss on *real* rewards along replayed rows; its gradient reaches the RSSM.

    Time first: all (T, B), value_logits (T, B, K). bootstrap: the first dreamed return R_0 where
    a dream began, the critic's own value elsewhere. Returns (T-1, B); a step that ends an episode has no next step and weighs nothing.
    Source: `repl_loss` of the official code.
    """
    last = is_last.float()
    returns = lambda_return(reward, is_terminal.float(), last, bootstrap, discount, lam)
    loss = critic_loss(value_logits[:-1], returns, slow_value[:-1], bins, slow_regulariser)
    return (1 - last[:-1]) * loss

"""Step 7: the dream. From states of real episodes the actor walks on inside the world model."""

import torch
from torch import nn

from ..distributions import BoundedNormal, Categorical
from ..layers import Linear, mlp
from ..world_model.rssm import features


class Actor(nn.Module):
    """pi(a_t | s_t): a unimix categorical over A actions, or a bounded normal for each of A numbers."""

    def __init__(self, inputs, actions, discrete, units, mix, layers=3):
        super().__init__()
        self.discrete, self.mix = discrete, mix
        self.mlp = mlp(inputs, units, layers)
        self.out = Linear(units, actions if discrete else 2 * actions, scale=0.01)

    def forward(self, feature):
        """(..., D + S*C) -> the policy at each of these states."""
        out = self.out(self.mlp(feature))
        return Categorical(out, self.mix) if self.discrete else BoundedNormal(*out.chunk(2, -1))


@torch.no_grad()
def imagine(rssm, actor, deter, stoch, horizon, draw):
    """Dream `horizon` steps from N start states: deter (N, D), stoch (N, S, C).

    Returns features (H+1, N, D + S*C) of states 0 ... H, where state 0 is the start itself, and
    actions (H+1, N, A): action i is chosen *in* state i and leads to state i + 1. No gradient is
    ever needed here: the actor learns by REINFORCE, not through the dynamics.
    """
    weights, size = rssm.prepare(), deter.shape[1]
    feature = deter.new_empty(horizon + 1, len(deter), size + stoch[0].numel())
    actions = []
    for step in range(horizon + 1):
        feature[step, :, :size], feature[step, :, size:] = deter, stoch.flatten(1)
        actions.append(actor(feature[step]).sample(draw))                   # (N, A)
        if step < horizon:
            deter, stoch = rssm.imagine(deter, stoch, actions[step], draw, weights)
    return feature, torch.stack(actions)

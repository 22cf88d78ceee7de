"""Step 8: what a state is worth (lambda-returns), and on what scale (percentile normalisation)."""

import torch
from torch import nn


def lambda_return(reward, terminal, last, bootstrap, discount, lam):
    """Mix of all n-step returns, computed backwards along time, the first axis (Eq. 5, with the indices of the official code:
    the paper writes r_t and v_t where these stand at t + 1, and the discount apart from c):

        R_t = r_{t+1} + (1 - terminal_{t+1}) discount [(1 - l) v_{t+1} + l R_{t+1}]
        with l = lam (1 - last_{t+1}) and R_{T-1} = v_{T-1}

    reward, terminal, last, bootstrap (v): (T, N). Everything that a_t causes stands at t + 1.
    A truncated episode (last, not terminal) bootstraps from v; a terminated one does not.
    Returns (T-1, N). In a dream terminal = 1 - continue, last = 0 and discount = 1.
    """
    live = (1 - terminal) * discount                        # (T, N)
    trace = (1 - last) * lam                                # (T, N)
    target, returns = bootstrap[-1], []
    for t in reversed(range(1, len(reward))):
        target = reward[t] + live[t] * ((1 - trace[t]) * bootstrap[t] + trace[t] * target)
        returns.append(target)                              # (N,)
    return torch.stack(returns[::-1])                       # (T-1, N)


class ReturnNorm(nn.Module):
    """S = max(limit, Per(R, 95) - Per(R, 5)) with moving percentiles (Eq. 6 and 7, actor; limit 1 in the paper).

    Large returns are scaled down, small ones not up, or at most by 1 / limit: under sparse rewards the noise
    of the critic must not be blown up to look like an advantage. Starts at 0, no debiasing.
    """

    def __init__(self, rate=0.01, limit=1.0, low=5.0, high=95.0):
        super().__init__()
        self.rate, self.limit = rate, limit
        self.register_buffer("quantiles", torch.tensor([low / 100, high / 100]), persistent=False)
        self.register_buffer("range", torch.zeros(2))       # moving 5th and 95th percentile

    @torch.no_grad()
    def update(self, returns):
        """Take in a batch of returns (any shape), *then* give the scale S to divide by: ()."""
        ordered = returns.flatten().sort().values
        self.range.lerp_(quantile(ordered, self.quantiles), self.rate)
        return self.scale

    @property
    def scale(self):
        return (self.range[1] - self.range[0]).clamp(min=self.limit)


def quantile(ordered, fractions):
    """Linearly interpolated quantiles of a sorted vector (N,) at fractions (Q,) -> (Q,).

    `torch.quantile` does the same but refuses more than 16 million numbers.
    """
    position = fractions * (len(ordered) - 1)
    below = position.floor().long()
    above = (below + 1).clamp(max=len(ordered) - 1)
    return torch.lerp(ordered[below], ordered[above], position - below)

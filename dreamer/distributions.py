"""Step 1: how numbers are squashed, and how the heads express what they do not know.

Glossary for the whole package: B batch, T time, H imagination horizon, N rows of any kind (of a
dream: its trajectories), D deterministic units (deter), S latents and C classes of the stochastic
state (stoch), F = D + S*C features, U hidden units, E numbers of a token, A actions, K two-hot bins,
g blocks, V numbers and M symbols of an observation. Eq. and Table: arXiv 2301.04104, version 2.
"""

import math

import torch
import torch.nn.functional as F


# ------------------------------------------------------------------ symlog, Eq. 9

def symlog(x):
    """sign(x) ln(1 + |x|): near the identity around 0, logarithmic far away. Any shape."""
    return x.sign() * x.abs().log1p()


def symexp(x):
    """sign(x) (exp|x| - 1), the inverse of `symlog`. Any shape."""
    return x.sign() * x.abs().expm1()


# ------------------------------------------------------------------ two-hot, Eq. 10 and 11

def make_bins(count=255):
    """The K bin values symexp(-20 ... 20): (K,), antisymmetric to the last bit, 0 in the middle.

    The bins are spread in *raw* value space, so a prediction is a plain weighted mean and may
    be as far as 4.85e8 from zero. Source: `outs.TwoHot` and `heads.symexp_twohot`, official code.
    Raises ValueError unless `count` is odd and at least 3.
    """
    if count < 3 or count % 2 == 0:
        raise ValueError(f"two-hot needs an odd number of at least 3 bins, got {count}.")
    # In double precision: exp turns a rounding error of the exponent 20 into one 20 times larger.
    lower = symexp(torch.linspace(-20, 0, count // 2 + 1, dtype=torch.float64)).float()
    return torch.cat([lower, -lower[:-1].flip(0)])              # (K,)


def twohot_mean(logits, bins):
    """Expected value under softmax(logits): (..., K) -> (...).

    The bins reach 5e8, so a plain sum drowns in rounding errors. Bins come in pairs +b and -b:
    subtracting the probabilities of a pair *before* multiplying is exact where it matters, and
    gives exactly 0 for the uniform distribution that the zero-initialised heads start from.
    """
    half = bins.shape[0] // 2
    probs = logits.softmax(-1)                                      # (..., K)
    excess = probs[..., half + 1:] - probs[..., :half].flip(-1)     # (..., K//2)
    return excess @ bins[half + 1:]                                 # (...)


def twohot_code(target, bins):
    """The two bins around each target, and weights whose mean of these bins is the target (Eq. 11).

    target (...) -> index (..., 2) and weights (..., 2); beyond the last bin all weight is on that bin.
    """
    target = target.detach().clamp(bins[0], bins[-1]).contiguous()
    lower = (torch.bucketize(target, bins, right=True) - 1).clamp(0, len(bins) - 2)
    below, above = bins[lower], bins[lower + 1]
    # Each weight from its own distance: 1 - weight would round a small one away.
    weights = torch.stack([above - target, target - below], -1) / (above - below).unsqueeze(-1)
    return torch.stack([lower, lower + 1], -1), weights


def twohot_loss(log_probs, target, bins):
    """Cross-entropy with the two-hot code of `target`: log_probs (..., K), target (...) -> (...).

    log_probs is log_softmax(logits).
    """
    index, weights = twohot_code(target, bins)
    return -(log_probs.gather(-1, index) * weights).sum(-1)


# ------------------------------------------------------------------ categorical latents, Eq. 1

def unimix(logits, mix):
    """(1 - mix) softmax + mix / C over the last axis, so no class is ever impossible. (..., C)"""
    # With a handful of classes softmax is ten times faster on a CPU along the *first* axis.
    probs = logits.movedim(-1, 0).softmax(0).movedim(0, -1)
    return probs if mix == 0 else probs * (1 - mix) + mix / logits.shape[-1]


def unimix_pair(logits, mix):
    """`unimix` and its logarithm, which stays finite where mix = 0 lets a class vanish. (..., C) x2"""
    probs = unimix(logits, mix)
    return probs, logits.log_softmax(-1) if mix == 0 else probs.log()


class Draw:
    """The source of every random choice inside the agent: one generator, so a run can be repeated."""

    def __init__(self, generator=None):
        self.generator = generator

    def one_hot(self, probs):
        """One class per row, by inverting the cumulative sum: (..., C) -> (..., C) one-hot.

        One uniform number per row, instead of the C numbers that the Gumbel trick needs.
        """
        edges = probs.detach().movedim(-1, 0).cumsum(0)[:-1]                # (C-1, ...)
        uniform = torch.rand(probs.shape[:-1], generator=self.generator, device=probs.device)
        index = (uniform >= edges).sum(0)       # as many edges passed as the number of the class, (...)
        return F.embedding(index, torch.eye(probs.shape[-1], dtype=probs.dtype, device=probs.device))

    def normal(self, mean, std):
        """Gaussian sample: (..., A) x2 -> (..., A)."""
        return mean + std * torch.randn(mean.shape, generator=self.generator, device=mean.device)


class Mode:
    """Stands in for `Draw` and always takes the most probable outcome: for greedy actions, and for exact numbers."""

    def one_hot(self, probs):
        return F.one_hot(probs.argmax(-1), probs.shape[-1]).to(probs.dtype)

    def normal(self, mean, std):
        return mean


def straight_through(onehot, probs):
    """The sample in value, the probabilities in gradient (Bengio et al. 2013). (..., C)"""
    return onehot + (probs - probs.detach()) if probs.requires_grad else onehot


def latent_kl(post_logits, prior_logits, mix):
    """KL(posterior || prior) in nats, summed over the S latents: (..., S, C) x2 -> (...).

    Both sides are unimixed first: with raw logits the KL of an 'impossible' class is unbounded.
    """
    (post, log_post), (_, log_prior) = unimix_pair(post_logits, mix), unimix_pair(prior_logits, mix)
    return (post * (log_post - log_prior)).sum((-2, -1))


# ------------------------------------------------------------------ what an actor may output

class Categorical:
    """Discrete policy over A actions; samples are one-hot (..., A). Unimix as in the paper."""

    def __init__(self, logits, mix):
        self.probs, self.log_probs = unimix_pair(logits, mix)           # (..., A) each

    def sample(self, draw):
        return draw.one_hot(self.probs)                 # (..., A)

    def mode(self):
        return Mode().one_hot(self.probs)               # (..., A)

    def log_prob(self, action):
        return (action * self.log_probs).sum(-1)        # (...)

    def entropy(self):
        return -(self.probs * self.log_probs).sum(-1)   # (...)


class BoundedNormal:
    """Continuous policy: a plain Gaussian whose mean is in (-1, 1) and whose std is in (.1, 1).

    Nothing is squashed after sampling, so the log-probability needs no correction: the
    environment clips, and the replay buffer keeps the unclipped sample.
    Source: `heads.bounded_normal`, official code.
    """

    def __init__(self, raw_mean, raw_std, low=0.1, high=1.0):
        self.mean = raw_mean.tanh()                                     # (..., A)
        self.std = (high - low) * (raw_std + 2).sigmoid() + low         # (..., A)

    def sample(self, draw):
        return draw.normal(self.mean, self.std)                         # (..., A)

    def mode(self):
        return self.mean

    def log_prob(self, action):
        z = (action - self.mean) / self.std
        return (-0.5 * z ** 2 - self.std.log() - 0.5 * math.log(2 * math.pi)).sum(-1)   # (...)

    def entropy(self):
        return (0.5 + 0.5 * math.log(2 * math.pi) + self.std.log()).sum(-1)             # (...)

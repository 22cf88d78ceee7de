"""Four tricks of the algorithm on synthetic data, each beside the same without it: one number, and what it should be.

Everything is the course's own code, seeded, and takes about a second. A trick that does not work here is broken.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..behavior.returns import ReturnNorm
from ..distributions import Draw, make_bins, straight_through, symexp, symlog, unimix
from ..layers import Linear, mlp
from ..optimizer import LaProp
from ..world_model.model import TwoHotHead, kl_losses


class Finding(NamedTuple):
    """A measured number with the trick and without it, and the range in which it should be."""
    trick: str
    what: str
    with_it: float
    without: float
    low: float
    high: float

    @property
    def good(self):
        """The trick works, and its absence would have been noticed."""
        return self.low <= self.with_it <= self.high and not self.low <= self.without <= self.high


def fit(modules, loss, updates, lr=1e-2):
    """Train `modules` by the course's optimiser on loss(), a number."""
    optimizer = LaProp([p for module in modules for p in module.parameters()], lr, warmup=0)
    for _ in range(updates):
        loss().backward()
        optimizer.step()


def symlog_rewards(updates=300):
    """A network learns rewards of 1, 10, 100 and 1000 at once, in symlogs and as they are: worst relative error."""
    seen, reward = torch.eye(4), torch.tensor([1.0, 10.0, 100.0, 1000.0])

    def worst(squash, unsquash):
        torch.manual_seed(0)
        net = nn.Sequential(mlp(4, 32, 1), Linear(32, 1))
        fit([net], lambda: F.mse_loss(net(seen)[:, 0], squash(reward)), updates)
        with torch.no_grad():
            return float(((unsquash(net(seen)[:, 0]) - reward) / reward).abs().max())
    return Finding("symlog", f"worst relative error of rewards from 1 to 1000 after {updates} updates",
                   worst(symlog, symexp), worst(lambda x: x, lambda x: x), 0, 0.1)


def twohot_mean_of_two(updates=300):
    """A head learns targets that are 0 nine times of ten, else 30: its mean, and that of the bins nearest to them."""
    target = torch.tensor([0.0] * 9 + [30.0])
    torch.manual_seed(0)
    head, feature = TwoHotHead(1, 16, 1, 255), torch.ones(len(target), 1)
    fit([head], lambda: head.loss(head(feature), target).mean(), updates)
    with torch.no_grad():
        mean = float(head.mean(head(feature))[0])
    bins = make_bins()
    nearest = bins[(target.unsqueeze(-1) - bins).abs().argmin(-1)]
    return Finding("two-hot", "mean of targets 0, 0, 0, 0, 0, 0, 0, 0, 0, 30 (without: each on its nearest bin)",
                   mean, float(nearest.mean()), 2.97, 3.03)


def noise_of_sparse_returns(updates=600):
    """Returns are 1 in a thousandth of all dreams, else 0, and the critic is .01 off: deviation of its advantages."""
    generator = torch.Generator().manual_seed(0)

    def noise(limit):
        norm = ReturnNorm(limit=limit)
        for _ in range(updates):
            off = 0.01 * torch.randn(2000, generator=generator)
            scale = norm.update(off + (torch.rand(2000, generator=generator) < 0.001))
        return float((off / scale).std())
    return Finding("percentile normalisation", "noise of .01 in sparse returns, as advantage (without: no floor)",
                   noise(1.0), noise(1e-8), 0, 0.02)


def free_nats_keep_information(updates=400):
    """A latent of 4 classes shows which of 4 things came, though showing it hardly pays: information in it, in nats."""
    def kept(free_nats):
        torch.manual_seed(0)
        draw, came = Draw(torch.Generator().manual_seed(0)), torch.eye(4).repeat(16, 1)
        posterior, prior, decoder = Linear(4, 4), Linear(1, 4), Linear(4, 4)

        def loss():
            post = posterior(came).unsqueeze(-2)                                # (64, 1, 4)
            probs = unimix(post, 0.01)
            said = decoder(straight_through(draw.one_hot(probs), probs)[:, 0])
            dyn, rep, _ = kl_losses(post, prior(came[:, :1] * 0).unsqueeze(-2), 0.01, free_nats)
            return (0.1 * (said - came).square().sum(-1) + dyn + 0.1 * rep).mean()
        fit([posterior, prior, decoder], loss, updates)
        with torch.no_grad():
            probs = unimix(posterior(torch.eye(4)), 0.01)                       # (4 things, 4 classes)
            return float((probs * (probs / probs.mean(0)).log()).sum(-1).mean())
    return Finding("free nats", f"information that a latent keeps, of ln 4 = {torch.tensor(4.0).log():.2f} nats",
                   kept(1.0), kept(0.0), 0.8, 1.39)


def all_findings():
    return [symlog_rewards(), twohot_mean_of_two(), noise_of_sparse_returns(), free_nats_keep_information()]

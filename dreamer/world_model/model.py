"""Step 6: the world model: encoder, RSSM and decoder with reward and continue heads, and its loss."""

import torch
import torch.nn.functional as F
from torch import nn

from ..distributions import latent_kl, make_bins, twohot_loss, twohot_mean
from ..layers import Linear, mlp
from .decoder import Decoder
from .encoder import Encoder, Standardize
from .rssm import RSSM, features


class TwoHotHead(nn.Module):
    """MLP -> K logits over symexp-spaced bins. Zero-initialised: its first prediction is exactly 0."""

    def __init__(self, inputs, units, layers, bins):
        super().__init__()
        self.mlp = mlp(inputs, units, layers)
        self.out = Linear(units, bins, scale=0.0)
        self.register_buffer("bins", make_bins(bins), persistent=False)

    def forward(self, feature):
        """(..., D + S*C) -> logits (..., K)"""
        return self.out(self.mlp(feature))

    def mean(self, logits):
        return twohot_mean(logits, self.bins)           # (..., K) -> (...)

    def loss(self, logits, target):
        return twohot_loss(logits.log_softmax(-1), target, self.bins)   # (..., K), (...) -> (...)


def kl_losses(post, prior, mix, free_nats):
    """Dynamics and representation loss, Eq. 3: the same KL, each training only one of its sides.

    Raw logits (..., S, C) x2 -> dyn, rep and the KL before the free nats, (...) each. Free
    nats: so much information per step costs nothing. What is clamped is the *sum* over the latents:
    below it both losses stand still.
    """
    dyn, rep = latent_kl(post.detach(), prior, mix), latent_kl(post, prior.detach(), mix)
    return dyn.clamp(min=free_nats), rep.clamp(min=free_nats), dyn.detach()


class WorldModel(nn.Module):
    """p(observation, reward, continue | past observations and actions)."""

    def __init__(self, spec, actions, size, config):
        super().__init__()
        self.discount, self.free_nats = config.discount, config.free_nats
        flat = config.stoch * size.classes
        self.standardize = Standardize(spec.vector)
        self.encoder = Encoder(spec, size.hidden, size.depth)
        self.rssm = RSSM(actions, self.encoder.outputs, size.deter, size.hidden,
                         config.stoch, size.classes, config.blocks, config.unimix)
        self.decoder = Decoder(spec, size.deter, flat, size.hidden, size.depth, config.blocks)
        self.reward = TwoHotHead(size.deter + flat, size.hidden, 1, config.bins)
        self.continues = nn.Sequential(mlp(size.deter + flat, size.hidden, 1), Linear(size.hidden, 1))

    def see(self, obs):
        """Bring the floats of an observation to order one; leave the rest as it is."""
        return {**obs, "vector": self.standardize(obs["vector"])} if "vector" in obs else obs

    def continue_logit(self, feature):
        """Logit of discount * P(no termination): (..., D + S*C) -> (...)"""
        return self.continues(feature).squeeze(-1)

    def loss(self, batch, state, draw):
        """Eq. 3 on a batch of (B, T) rows; every loss comes back as (B, T), unweighted.

        batch: obs dict, prev_action (B, T, A), reward, is_first, is_terminal (B, T).
        reward_t and is_terminal_t belong to *arriving* at observation t.
        Also returns deter (B, T, D), stoch (B, T, S, C) and more of what the loss computed.
        """
        obs = self.see(batch["obs"])
        tokens = self.encoder(obs)                                          # (B, T, E)
        deter, stoch, post = self.rssm.observe(
            tokens, batch["prev_action"], batch["is_first"], state, draw)
        prior = self.rssm.prior(deter)                                      # (B, T, S, C)
        feature = features(deter, stoch)                                    # (B, T, D + S*C)
        reward, continues = self.reward(feature), self.continue_logit(feature)
        # The label is soft (official code; binary in Eq. 3): the head learns discount * P(continue), so dreams need no discount of their own.
        alive = (1 - batch["is_terminal"].float()) * self.discount
        dyn, rep, kl = kl_losses(post, prior, self.rssm.mix, self.free_nats)
        losses = {
            "rec": self.decoder.loss(self.decoder(deter, stoch), obs),
            "rew": self.reward.loss(reward, batch["reward"]),
            "con": F.binary_cross_entropy_with_logits(continues, alive, reduction="none"),
            "dyn": dyn, "rep": rep}
        return losses, {"tokens": tokens, "deter": deter, "stoch": stoch, "post": post, "prior": prior,
                        "feature": feature, "reward": reward, "continues": continues, "kl": kl}

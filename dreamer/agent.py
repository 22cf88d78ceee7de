"""Step 11: the whole agent: how it acts, and the one loss that trains all of it."""

import torch
from torch import nn

from .behavior.actor_critic import dream_losses, replay_value_loss
from .behavior.imagination import Actor, imagine
from .behavior.returns import ReturnNorm
from .config import SIZES
from .optimizer import follow
from .world_model.model import TwoHotHead, WorldModel
from .world_model.rssm import features


class Agent(nn.Module):
    """World model, actor, critic and slow critic for one kind of observation and action."""

    def __init__(self, spec, actions, discrete, config):
        super().__init__()
        self.config, size = config, SIZES[config.size]
        inputs = size.deter + config.stoch * size.classes
        self.world_model = WorldModel(spec, actions, size, config)
        self.actor = Actor(inputs, actions, discrete, size.hidden, config.unimix)
        self.critic = TwoHotHead(inputs, size.hidden, 3, config.bins)
        self.slow_critic = TwoHotHead(inputs, size.hidden, 3, config.bins).requires_grad_(False)
        follow(self.slow_critic, self.critic, 1.0)
        self.return_norm = ReturnNorm(config.return_rate, config.return_floor)
        self.scales = {name: getattr(config, f"beta_{name}") for name in ("rec", "dyn", "rep", "rew", "repval")}

    def trained(self):
        """The parameters that the optimiser moves: all but the slow critic's."""
        return [p for p in self.parameters() if p.requires_grad]

    @torch.no_grad()
    def act(self, obs, state, prev_action, is_first, draw, greedy=False):
        """One step of acting in B environments.

        obs: dict of (B, ...), state: deter (B, D), stoch (B, S, C), prev_action (B, A), is_first
        (B,) bool. Returns action (B, A), one-hot if discrete, and the new state. `greedy` takes
        the mode of the actor; the latents are sampled in either case, as in training.
        """
        tokens = self.world_model.encoder(self.world_model.see(obs)).unsqueeze(1)      # (B, 1, E)
        deter, stoch, _ = self.world_model.rssm.observe(
            tokens, prev_action.unsqueeze(1), is_first.unsqueeze(1), state, draw)
        deter, stoch = deter[:, 0], stoch[:, 0]
        policy = self.actor(features(deter, stoch))
        return policy.mode() if greedy else policy.sample(draw), (deter, stoch)

    def loss(self, batch, state, draw, starts=None, entropy=None, predict_first=False):
        """All losses of one update. batch: see `WorldModel.loss`, and is_last (B, T).

        starts: indices (N,) into the B*T states from which dreams begin; None takes all. entropy: eta, (), if not config's.
        predict_first: let the continue head judge the start states too, as the current official
        code does; by default the data say whether a start is alive (as in the paper's runs).
        Returns the total (), unweighted losses by name, metrics, and the world model's outputs.
        """
        losses, model = self.world_model.loss(batch, state, draw)
        starts = torch.arange(model["kl"].numel(), device=model["kl"].device) if starts is None else starts
        alive = None if predict_first else (1 - batch["is_terminal"].float()).flatten()[starts]
        losses["policy"], losses["value"], returns, metrics = self.dream(model, starts, alive, draw, entropy)
        losses["repval"] = self.replay_value(batch, model["feature"], returns[0], starts)
        metrics["kl"] = model["kl"].mean()
        return self.total(losses), losses, metrics, model

    def total(self, losses):
        """Weighted sum of the means of all losses, Eq. 2 and those of actor and critic: one number, for one backward pass."""
        return sum(self.scales.get(name, 1.0) * loss.mean() for name, loss in losses.items())

    def dream(self, model, starts, alive, draw, entropy=None):
        """Dreams from the replayed states with indices `starts` (N,), Eq. 5 to 7: losses of actor and critic, returns, (H, N) each, metrics.

        alive: 1 or 0 for each start, (N,); None lets the continue head say it.
        """
        config, rssm = self.config, self.world_model.rssm
        entropy = config.entropy if entropy is None else entropy
        deter, stoch = (model[k].detach().flatten(0, 1)[starts] for k in ("deter", "stoch"))
        feature, action = imagine(rssm, self.actor, deter, stoch, config.imagination_horizon, draw)
        reward, continues, slow_value = self.judge(feature)                         # (H+1, N) each
        if alive is not None:
            continues[0] = alive
        logits = self.critic(feature[:-1])                                          # (H, N, K)
        value = torch.cat([self.value(logits), self.value(self.critic(feature[-1:]))])
        return dream_losses(
            reward, continues, value, slow_value[:-1], self.actor(feature[:-1]), action[:-1], logits,
            self.critic.bins, self.return_norm, config.lam, entropy, config.slow_regulariser)

    @torch.no_grad()
    def value(self, logits):
        """The critic's mean, for bootstrapping: never a path for gradients. (..., K) -> (...)"""
        return self.critic.mean(logits)

    @torch.no_grad()
    def judge(self, feature):
        """Predicted reward, continue and slow value in every dreamed state: (H+1, N, F) -> (H+1, N) x3.

        In pieces of a thousand states: their 255 bins fit the processor's cache, those of all do not.
        """
        wm, slow, pieces = self.world_model, self.slow_critic, feature.flatten(0, 1).split(1024)
        judged = [(wm.reward.mean(wm.reward(x)), wm.continue_logit(x).sigmoid(), slow.mean(slow(x)))
                  for x in pieces]
        return tuple(torch.cat(x).view(feature.shape[:2]) for x in zip(*judged))

    def replay_value(self, batch, feature, dreamed, starts):
        """The critic's loss on replayed rewards (T-1, B); its gradient trains the world model too.

        Where a dream began its first return is the bootstrap, elsewhere the critic's own value.
        """
        config, logits = self.config, self.critic(feature)                          # (B, T, K)
        bootstrap = self.value(logits).flatten()                                    # (B*T,)
        bootstrap[starts] = dreamed
        with torch.no_grad():
            slow_value = self.slow_critic.mean(self.slow_critic(feature))           # (B, T)
        reward, terminal, last, bootstrap, logits, slow_value = (x.transpose(0, 1) for x in (
            batch["reward"], batch["is_terminal"], batch["is_last"], bootstrap.view_as(slow_value), logits, slow_value))
        return replay_value_loss(reward, terminal, last, bootstrap, logits, slow_value, self.critic.bins,
                                 config.discount, config.lam, config.slow_regulariser)

"""Step 12: one update: loss, backward, optimiser, slow copies. training/loop.py samples before it and stores the latents after it."""

import copy

import torch
import torch.nn.functional as F

from .agent import Agent
from .distributions import Draw
from .optimizer import LaProp, follow


class Learner:
    """The agent with all that training adds: optimiser, averaged weights, source of randomness."""

    def __init__(self, spec, actions, discrete, config, device="cpu"):
        torch.manual_seed(config.seed)                  # the weights
        self.config, self.device = config, torch.device(device)
        self.agent = Agent(spec, actions, discrete, config).to(self.device)
        self.average = copy.deepcopy(self.agent).requires_grad_(False)
        self.optimizer = LaProp(self.agent.trained(), config.lr, config.warmup, config.agc)
        self.draw = Draw(torch.Generator(self.device).manual_seed(config.seed))
        self.updates = 0

    def update(self, batch, state):
        """Train on one batch of `Replay.sample`, state: deter (B, D), stoch class indices (B, S).

        Returns metrics (0-d tensors) and fresh latents deter (B, T, D), class indices (B, T, S).
        """
        entropy = torch.tensor(self.config.entropy * self.left(self.config.entropy_end), device=self.device)
        return self.apply(*self.gradient(batch, state, entropy))

    def gradient(self, batch, state, entropy):
        """Losses by name, metrics and the world model's outputs; the gradient of all losses goes to .grad of the parameters."""
        total, losses, metrics, model = self.agent.loss(
            batch, self.first_state(*state), self.draw, self.pick_starts(batch), entropy)
        total.backward()
        return losses, metrics, model

    def update_world_model(self, batch, state):
        """The same for the world model alone (lesson 1): no dream, actor and critic stay as they are."""
        losses, model = self.agent.world_model.loss(batch, self.first_state(*state), self.draw)
        self.agent.total(losses).backward()
        return self.apply(losses, {"kl": model["kl"].mean()}, model)

    def apply(self, losses, metrics, model):
        """One step of the optimiser, and the copies that follow."""
        metrics["grad_norm"] = self.optimizer.step(self.left(self.config.lr_end))
        follow(self.agent.slow_critic, self.agent.critic, self.config.slow_rate)
        follow(self.average, self.agent, self.config.average_rate)
        self.updates += 1
        metrics |= {f"loss_{name}": loss.detach().mean() for name, loss in losses.items()}
        return metrics, (model["deter"].detach(), model["stoch"].detach().argmax(-1))

    def left(self, end):
        """Share that is left at this update of what falls along a line, from 1 to `end` at the last one that is planned.

        At full learning rate an agent that has long been good unlearns and relearns: see LOG.md, "Pendulum swings".
        """
        done = min(1.0, self.updates / self.config.planned_updates)
        return 1 - (1 - end) * done

    def first_state(self, deter, stoch):
        """Stored latents (B, D), class indices (B, S) -> the state before the sequence, cold for some.

        A share of the sequences starts from the zero state. Those can only find out where they are by
        looking. From stored latents alone a slow variable such as CartPole's position would be carried
        along in h and never be read off an observation: see LOG.md, "the cause". Only h and z are zeroed, not the action before.
        """
        classes = self.agent.world_model.rssm.classes           # index C stands for the zero state
        stoch = F.one_hot(stoch, classes + 1)[..., :classes].float()                # (B, S, C)
        chance = torch.rand(len(deter), 1, generator=self.draw.generator, device=self.device)
        warm = (chance >= self.config.cold_starts).float()                          # (B, 1)
        return deter * warm, stoch * warm.unsqueeze(-1)

    def pick_starts(self, batch):
        """Random replayed states to dream from: (N,) indices into B*T, or None for all."""
        count = batch["reward"].numel()
        if not 0 < self.config.starts < count:
            return None
        order = torch.randperm(count, generator=self.draw.generator, device=self.device)
        return order[:self.config.starts]

"""Probe environments: each is so small that one ability of the agent decides over it.

An agent that fails a probe has one thing wrong, and the probe says which. All have one number as
observation and two actions (0 and 1).
"""

from unittest import mock

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete

from dreamer.config import SIZES, Config, Size
from dreamer.distributions import Draw
from dreamer.training.loop import Run
from dreamer.world_model.rssm import features


class Probe(gym.Env):
    """`begin()` gives the first observation, `move(action)` the next one, its reward and whether
    the episode is over: "", "terminated" or "truncated"."""

    observation_space = Box(-1, 1, (1,), np.float32)
    action_space = Discrete(2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.see(self.begin()), {}

    def step(self, action):
        self.time += 1
        seen, reward, over = self.move(int(action))
        return self.see(seen), float(reward), over == "terminated", over == "truncated", {}

    def see(self, number):
        return np.array([number], dtype=np.float32)

    def coin(self):
        """-1 or 1"""
        return int(self.np_random.integers(2)) * 2 - 1


class ConstantReward(Probe):
    """Every step is rewarded with 10, whatever happens. Cut off after 6 steps."""

    def begin(self):
        return 0

    def move(self, action):
        return 0, 10, "truncated" if self.time == 6 else ""


class ObservedReward(Probe):
    """Each observation is a coin, and the reward on arriving there is the same number."""

    def begin(self):
        return self.coin()

    def move(self, action):
        coin = self.coin()
        return coin, coin, "truncated" if self.time == 6 else ""


class DelayedReward(Probe):
    """A cue of -1 or 1, then blanks; on arriving at step 2 the cue is the reward, and all is over."""

    def begin(self):
        self.cue = self.coin()
        return self.cue

    def move(self, action):
        over = self.time == 2
        return 0, self.cue * over, "terminated" if over else ""


class ActionReward(Probe):
    """Nothing to see; action 1 is rewarded with 1."""

    def begin(self):
        return 0

    def move(self, action):
        return 0, action, "truncated" if self.time == 6 else ""


class MatchReward(Probe):
    """Each observation is a coin; the action that matches it (0 for -1, 1 for 1) is rewarded with 1."""

    def begin(self):
        self.shown = self.coin()
        return self.shown

    def move(self, action):
        reward = action == (self.shown > 0)
        self.shown = self.coin()
        return self.shown, reward, "truncated" if self.time == 6 else ""


class RandomEnd(Probe):
    """Every step is rewarded with 1 and is the last one with probability 1/3; the end is seen as 1."""

    def __init__(self, over):
        self.over = over

    def begin(self):
        return 0

    def move(self, action):
        over = self.np_random.random() < 1 / 3
        return over, 1, self.over if over else ""


class Memory(Probe):
    """A cue of -1 or 1 at step 0, then blanks; the action at step 2 must match the cue."""

    def begin(self):
        self.cue = self.coin()
        return self.cue

    def move(self, action):
        over = self.time == 3
        return 0, over and action == (self.cue > 0), "terminated" if over else ""


for name, probe, options in (
        ("ConstantReward", ConstantReward, {}), ("ObservedReward", ObservedReward, {}),
        ("DelayedReward", DelayedReward, {}), ("ActionReward", ActionReward, {}),
        ("MatchReward", MatchReward, {}), ("Memory", Memory, {}),
        ("Terminated", RandomEnd, {"over": "terminated"}), ("Truncated", RandomEnd, {"over": "truncated"})):
    gym.register(f"Probe{name}-v0", probe, kwargs=options)


TINY = Size(deter=128, hidden=32, classes=4, depth=1)       # in place of size 1m


def train(folder, name, updates=300, rows=600, seed=0, **options):
    """Random steps, then `updates` updates within the 30 steps after them: (agent, summary of the run).

    It is the real run: loop, replay, learner, evaluation. Only the numbers are small.
    """
    batch, length, acting = 16, 8, 30
    config = Config(**{
        "env": f"Probe{name}-v0", "seed": seed, "output": str(folder), "device": "cpu", "stoch": 16,
        "prefill": rows, "hold": 1, "steps": rows + acting, "batch_size": batch, "batch_length": length,
        "train_ratio": batch * length * updates / acting, "capacity": 2000, "starts": 64, "free_nats": 0.1,
        # With the course's scales (10, 1) a reward that needs memory takes twice the updates, and with its floor (.3, under a
        # bonus that falls to nothing within 800 updates) two of six seeds settle on one action before they remember: LOG.md.
        "beta_dyn": 1.0, "beta_rep": 0.1,
        "imagination_horizon": 3, "discount_horizon": 10, "entropy": 0.03, "return_floor": 1.0, "lr": 3e-3, "lr_end": 1.0, "warmup": 10,
        "slow_rate": 0.1, "average_rate": 1.0, "eval_every": 10_000, "checkpoint_every": 10_000, "final_episodes": 20, **options})
    with mock.patch.dict(SIZES, {"1m": TINY}):
        run = Run(config)
        summary = run.train()
    return run.learner.agent, summary


@torch.no_grad()
def watch(agent, observations, actions, seed=0, copies=32):
    """What the agent thinks along one episode: reward, continue, value and P(action 1), each (T,).

    observations: o_0 ... o_{T-1}, actions: a_0 ... a_{T-2}. The alignment is spelled out here and
    takes nothing from replay or loop. Averaged over `copies` draws of the latents.
    """
    obs = torch.tensor(observations, dtype=torch.float32).expand(copies, -1).unsqueeze(-1)      # (B, T, 1)
    action = F.one_hot(torch.tensor(actions), 2).float().expand(copies, -1, -1)                 # (B, T-1, 2)
    prev_action = torch.cat([torch.zeros(copies, 1, 2), action], 1)             # a_{t-1} leads to o_t
    is_first = torch.zeros(obs.shape[:2], dtype=torch.bool)
    is_first[:, 0] = True
    model, draw = agent.world_model, Draw(torch.Generator().manual_seed(seed))
    tokens = model.encoder(model.see({"vector": obs}))
    deter, stoch, _ = model.rssm.observe(tokens, prev_action, is_first, model.rssm.initial(copies), draw)
    feature = features(deter, stoch)
    return tuple(x.mean(0).tolist() for x in (
        model.reward.mean(model.reward(feature)), model.continue_logit(feature).sigmoid(),
        agent.critic.mean(agent.critic(feature)), agent.actor(feature).probs[..., 1]))

"""Acting: play in the environments and store every row (see the table in replay.py)."""

import numpy as np
import torch
import torch.nn.functional as F

from .envs import Environments, TaskError

LATE = 500          # steps of an episode, see Collector.hold_late


class CollectorError(TaskError):
    """Acting in a process of its own has ended there; all that it had sent is in the replay buffer."""


def acting(where):
    """The classes of environments and collector: those of this process, or their stand-ins for another one."""
    if where == "inline":
        return Environments, Collector
    from ..tools.collector_process import RemoteCollector, RemoteEnvironments
    return RemoteEnvironments, RemoteCollector


class Collector:
    """What the agent is in the middle of, in every environment: observation, latents, last action."""

    def __init__(self, envs, replay, learner, config):
        self.envs, self.replay, self.learner, self.config = envs, replay, learner, config
        self.rssm = learner.agent.world_model.rssm
        self.explore = torch.Generator().manual_seed(config.seed + 1)       # random actions of the prefill
        self.held = None                        # the random action of the step before, (N, A)
        self.recent = []                        # returns of the last 20 finished episodes

    def begin(self):
        """Start a new episode everywhere."""
        count = self.envs.count
        self.obs = self.envs.reset()
        self.state = self.rssm.initial(count)
        self.action = torch.zeros(count, self.envs.actions, device=self.learner.device)
        self.reward = np.zeros(count, dtype=np.float32)
        self.first = np.ones(count, dtype=bool)
        self.return_so_far = np.zeros(count)
        self.age = np.zeros(count, dtype=int)               # steps of the episode so far

    @property
    def between_episodes(self):
        return bool(self.first.all())

    def step(self, random):
        """One step in every environment, with random actions or the agent's own, stored row by row."""
        if random:
            self.action, self.state = self.random_actions(), None
        else:
            chosen, self.state = self.agent_actions()
            self.action = self.hold_late(chosen)
        everywhere = np.arange(self.envs.count)
        self.store(everywhere, self.obs, self.reward, self.action, self.state, first=self.first)
        self.obs, self.reward, terminal, last = self.envs.step(self.action.cpu().numpy())
        self.return_so_far += self.reward
        self.age += 1
        self.end_episodes(last, terminal)

    def agent_actions(self):
        """Sampled actions (N, A) of the averaged agent, the one that is evaluated, and its new state.

        If another policy acted, the mistakes of the evaluated one would never be seen and unlearned.
        """
        state = self.state or self.rssm.initial(self.envs.count)        # None after random actions
        obs = {k: torch.as_tensor(v, device=self.learner.device) for k, v in self.obs.items()}
        first = torch.as_tensor(self.first, device=self.learner.device)
        return self.learner.average.act(obs, state, self.action, first, self.learner.draw)

    def hold_late(self, chosen):
        """`chosen` (N, A); from step LATE of an episode on the action of the step before, but for every `late_hold`-th step.

        A task that ends when the agent rests is over long before; one that goes on so long may want just that, and
        an agent that draws anew at every step hardly ever rests.
        """
        if not self.config.late_hold:
            return chosen
        held = (self.age > LATE) & ((self.age - LATE) % self.config.late_hold > 0)              # (N,)
        return torch.where(torch.as_tensor(held, device=chosen.device).unsqueeze(1), self.action, chosen)

    def random_actions(self):
        """Held random actions (N, A), see `hold_or_draw`."""
        self.held = hold_or_draw(self.held, self.envs, self.config.hold, self.explore)
        return self.held.to(self.learner.device)

    def store(self, streams, obs, reward, action, state, first=False, last=False, terminal=False):
        """Append one row to each of `streams` (n,). state None: no latents yet, the zero state."""
        n = len(streams)
        if state is None:
            deter, stoch = torch.zeros(n, self.rssm.deter), torch.full((n, self.rssm.stoch), self.rssm.classes)
        else:
            deter, stoch = state[0], state[1].argmax(-1)
        flags = {name: torch.as_tensor(np.broadcast_to(value, n).copy()) for name, value in
                 (("is_first", first), ("is_last", last), ("is_terminal", terminal))}
        row = {"reward": reward, "action": action, "deter": deter, "stoch": stoch, **flags}
        self.replay.add({**row, **{f"obs_{k}": v for k, v in obs.items()}}, torch.as_tensor(streams))

    def end_episodes(self, last, terminal):
        """Where `last` (N,) is set, store the final observation as a row of its own and begin anew.

        terminal (N,): the task ended. An episode that only ran out of time is last, not terminal.
        """
        self.first = last
        over = np.flatnonzero(last)
        if not len(over):
            return
        obs = {k: v[over] for k, v in self.obs.items()}
        no_action = torch.zeros(len(over), self.envs.actions)
        self.store(over, obs, self.reward[over], no_action, None, last=True, terminal=terminal[over])
        self.recent = (self.recent + self.return_so_far[over].tolist())[-20:]
        self.return_so_far[over] = 0
        self.age[over] = 0
        self.obs = self.envs.reset(last)
        self.reward = np.where(last, 0, self.reward).astype(np.float32)

    def truncate(self):
        """Cut every episode here: its last row is stored as truncated, and a new one begins."""
        everywhere = np.ones(self.envs.count, dtype=bool)
        self.end_episodes(everywhere, terminal=~everywhere)

    def state_dict(self):
        """All that outlives an episode. Episodes that have just begun will be begun again."""
        return {"explore": self.explore.get_state(), "held": self.held, "recent": self.recent,
                "steps": self.envs.steps, "episodes": self.envs.episodes - int(self.first.sum())}

    def load_state_dict(self, state):
        """Call `begin` afterwards. Episodes in progress are cut in the replay buffer: truncated."""
        self.explore.set_state(state["explore"])
        self.held, self.recent = state["held"], state["recent"]
        self.envs.steps, self.envs.episodes = state["steps"], state["episodes"]
        self.replay.cut()


def hold_or_draw(held, envs, hold, generator):
    """Uniform actions (N, A), each kept from the step before (`held`, or None) with probability 1 - 1/hold.

    Held actions reach further than independent ones: a uniform policy swings Acrobot up in some 1 %
    of its episodes, one that holds its actions in some 40 %.
    """
    if envs.discrete:
        choice = torch.randint(envs.actions, (envs.count,), generator=generator)
        fresh = F.one_hot(choice, envs.actions).float()
    else:
        fresh = torch.rand(envs.count, envs.actions, generator=generator) * 2 - 1
    change = torch.rand(envs.count, 1, generator=generator) < 1 / hold
    return fresh if held is None else torch.where(change, fresh, held)

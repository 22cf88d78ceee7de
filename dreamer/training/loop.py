"""The training loop: act, store, learn at the train ratio, log, evaluate, save, resume."""

import json
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..config import SIZES
from ..learner import Learner
from . import checkpoint
from .envs import Environments
from .evaluate import evaluate
from .replay import Replay

FREE_TO_CHANGE = {"steps", "output", "resume", "device", "threads", "async_envs", "eval_episodes",
                  "final_episodes", "capacity"}       # a resumed run may differ in these


def pick_device(name):
    """auto: CUDA when there is one, else the CPU. mps has to be asked for."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[name]:
        raise ValueError(f"--device {name} is not available on this machine; use cpu or auto.")
    return name


def versions():
    return {"python": platform.python_version(), "torch": torch.__version__, "gymnasium": gymnasium.__version__,
            "numpy": np.__version__, "system": platform.system(), "machine": platform.machine()}


class Run:
    """One training run of one seed in one folder."""

    def __init__(self, config):
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config, self.device = config, pick_device(config.device)
        self.folder = Path(config.output or f"runs/{config.env}-{config.seed}")
        self.prepare_folder()
        self.envs = Environments(config.env, config.envs, config.seed, config.async_envs)
        self.learner = Learner(self.envs.spec, self.envs.actions, self.envs.discrete, config, self.device)
        size = SIZES[config.size]
        self.replay = Replay(config.capacity, config.envs, self.envs.spec, self.envs.actions,
                             size.deter, config.stoch, config.batch_length, config.seed)
        self.explore = torch.Generator().manual_seed(config.seed + 1)     # random actions of the prefill
        self.step, self.began = 0, None         # environment steps; the step at which training began
        self.seconds, self.log_size = 0.0, 0
        self.sums, self.recent, self.evaluations = {}, [], []
        self.return_so_far = np.zeros(config.envs)
        self.checkpoint, self.saved_at = self.folder / "checkpoint.pt", 0

    def prepare_folder(self):
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "metrics.jsonl").open("a").close()
        except OSError as error:
            raise ValueError(f"the output folder {self.folder} cannot be written ({error.strerror}); "
                             "choose another with --output.") from None

    # ------------------------------------------------------------------ acting

    def train(self):
        """Run to the last step, evaluate fresh episodes, write summary.json. Returns the summary."""
        if self.config.resume and self.checkpoint.exists():
            self.load()
        with open(self.folder / "metrics.jsonl", "a") as log:
            log.truncate(self.log_size)         # lines after the checkpoint will be written again
        self.new_episodes()
        start, before = time.time(), self.seconds
        with tqdm(total=self.config.steps, initial=self.step, desc=self.folder.name, unit="step",
                  mininterval=1, disable=None if os.environ.get("DREAMER_QUIET") is None else True) as bar:
            while self.step < self.config.steps:
                self.seconds = before + time.time() - start
                self.advance(bar)
        self.seconds = before + time.time() - start
        self.save()
        return self.finish()

    def new_episodes(self):
        """Reset every environment, with the state that goes with it."""
        self.obs = self.envs.reset()
        count, deter_stoch = self.config.envs, self.learner.agent.world_model.rssm.initial(self.config.envs)
        self.state = deter_stoch
        self.action = torch.zeros(count, self.envs.actions, device=self.device)
        self.reward = np.zeros(count, dtype=np.float32)
        self.first = np.ones(count, dtype=bool)
        self.held = None

    def advance(self, bar):
        """One step in every environment, and the updates that are due after it."""
        if self.step - self.saved_at >= self.config.checkpoint_every and self.may_save():
            self.save()
        self.choose_actions()
        self.store(np.arange(self.config.envs), self.obs, self.reward, self.action, self.state, first=self.first)
        previous = self.step
        self.obs, self.reward, terminal, self.first = self.envs.step(self.action.cpu().numpy())
        self.step += self.config.envs
        bar.update(self.config.envs)
        self.return_so_far += self.reward
        if self.first.any():
            self.end_episodes(terminal)
        self.learn()
        if self.step // self.config.log_every > previous // self.config.log_every:
            self.write_log(bar)
        if self.step // self.config.eval_every > previous // self.config.eval_every:
            self.evaluate()

    def may_save(self):
        """With one environment a checkpoint waits for a new episode: then nothing is cut at a resume."""
        late = self.step - self.saved_at >= 10 * self.config.checkpoint_every
        return self.config.envs > 1 or bool(self.first.all()) or late

    def choose_actions(self):
        """Random actions, each held for a while, during the prefill; then the agent's own."""
        if self.step < self.config.prefill:
            self.action, self.state = self.random_actions(), None
            return
        if self.state is None:
            self.state = self.learner.agent.world_model.rssm.initial(self.config.envs)
        obs = {k: torch.as_tensor(v, device=self.device) for k, v in self.obs.items()}
        first = torch.as_tensor(self.first, device=self.device)
        self.action, self.state = self.learner.agent.act(obs, self.state, self.action, first, self.learner.draw)

    def random_actions(self):
        """Uniform actions (N, A), kept from the step before with probability 1 - 1/hold.

        Held actions reach further than independent ones: a uniform policy swings Acrobot up in 3 %
        of its episodes, one that holds its actions in nearly half.
        """
        count, actions = self.config.envs, self.envs.actions
        if self.envs.discrete:
            choice = torch.randint(actions, (count,), generator=self.explore)
            fresh = F.one_hot(choice, actions).float()
        else:
            fresh = torch.rand(count, actions, generator=self.explore) * 2 - 1
        change = torch.rand(count, 1, generator=self.explore) < 1 / self.config.hold
        self.held = fresh if self.held is None else torch.where(change, fresh, self.held)
        return self.held.to(self.device)

    def store(self, streams, obs, reward, action, state, first=False, last=False, terminal=False):
        """Append one row to each of `streams` (n,). state None: no latents yet, the zero state."""
        n, rssm = len(streams), self.learner.agent.world_model.rssm
        if state is None:
            deter, stoch = torch.zeros(n, rssm.deter), torch.full((n, rssm.stoch), rssm.classes)
        else:
            deter, stoch = state[0], state[1].argmax(-1)
        flags = {name: torch.as_tensor(np.broadcast_to(value, n).copy()) for name, value in
                 (("is_first", first), ("is_last", last), ("is_terminal", terminal))}
        row = {"reward": reward, "action": action, "deter": deter, "stoch": stoch, **flags}
        self.replay.add({**row, **{f"obs_{k}": v for k, v in obs.items()}}, torch.as_tensor(streams))

    def end_episodes(self, terminal):
        """Store the last observation of episodes that are over as a row of its own, and begin anew."""
        over = np.flatnonzero(self.first)
        obs = {k: v[over] for k, v in self.obs.items()}
        nothing = torch.zeros(len(over), self.envs.actions)
        self.store(over, obs, self.reward[over], nothing, None, last=True, terminal=terminal[over])
        self.recent = (self.recent + self.return_so_far[over].tolist())[-20:]
        self.return_so_far[over] = 0
        self.obs = self.envs.reset(self.first)
        self.reward = np.where(self.first, 0, self.reward).astype(np.float32)

    # ------------------------------------------------------------------ learning

    def learn(self):
        """As many updates as the train ratio has earned: ratio / (B T) for each environment step."""
        config, per_update = self.config, self.config.batch_size * self.config.batch_length
        if self.began is None:
            if self.step < config.prefill or len(self.replay) < per_update + config.batch_size * config.envs:
                return
            self.began = self.step
            if config.standardize and config.prefill and self.envs.spec.vector:
                self.measure()
        while self.learner.updates < 1 + (self.step - self.began) * config.train_ratio / per_update:
            batch, state, place = self.replay.sample(config.batch_size, self.device)
            metrics, (deter, stoch) = self.learner.update(batch, state)
            self.replay.write_back(place, deter, stoch)
            for name, value in metrics.items():
                total, count = self.sums.get(name, (0.0, 0))
                self.sums[name] = (total + float(value), count + 1)

    def measure(self):
        """Fix the scale of the observations from the rows collected so far."""
        rows = torch.cat([self.replay.rows["obs_vector"][i, :n] for i, n in enumerate(self.replay.count.tolist())])
        for agent in (self.learner.agent, self.learner.average):
            agent.world_model.standardize.measure(rows.to(self.device))

    # ------------------------------------------------------------------ records

    def write_log(self, bar):
        means = {name: total / count for name, (total, count) in self.sums.items()}
        rate = (self.learner.updates / self.seconds) if self.seconds else 0.0
        score = float(np.mean(self.recent)) if self.recent else None
        line = {"step": self.step, "updates": self.learner.updates, "episodes": self.envs.episodes,
                "return": score, **means, "updates_per_second": rate, "seconds": self.seconds}
        with open(self.folder / "metrics.jsonl", "a") as log:
            log.write(json.dumps(line) + "\n")
            self.log_size = log.tell()
        self.sums = {}
        shown = {"return": score, "rec": means.get("loss_rec"), "kl": means.get("kl"), "upd/s": rate}
        bar.set_postfix({k: f"{v:.3g}" for k, v in shown.items() if v is not None})

    def evaluate(self):
        """Greedy and sampled episodes of the averaged agent, in environments of their own."""
        seed = int(np.random.SeedSequence([self.config.seed, 1, self.step]).generate_state(1)[0])
        scores = {mode: evaluate(self.learner.average, self.config.env, self.config.eval_episodes, seed,
                                 mode == "greedy", self.device) for mode in ("greedy", "sampled")}
        self.evaluations.append({"step": self.step, **scores})
        tqdm.write(f"{self.folder.name} step {self.step}: greedy {np.mean(scores['greedy']):.1f}, "
                   f"sampled {np.mean(scores['sampled']):.1f}")

    def finish(self):
        """Evaluate fresh episodes and write summary.json."""
        seed = int(np.random.SeedSequence([self.config.seed, 2]).generate_state(1)[0])
        final = {mode: evaluate(self.learner.average, self.config.env, self.config.final_episodes, seed,
                                mode == "greedy", self.device) for mode in ("greedy", "sampled")}
        summary = {"task": self.config.env, "seed": self.config.seed, "size": self.config.size,
                   "steps": self.step, "updates": self.learner.updates, "seconds": self.seconds,
                   "config": asdict(self.config), "versions": versions(), "threads": torch.get_num_threads(),
                   "evaluations": self.evaluations, "final": final}
        temporary = self.folder / "summary.json.tmp"
        temporary.write_text(json.dumps(summary, indent=1))
        temporary.replace(self.folder / "summary.json")
        self.envs.close()
        return summary

    # ------------------------------------------------------------------ checkpoints

    def save(self):
        learner = self.learner
        self.saved_at = self.step
        plain = ("step", "began", "seconds", "log_size", "sums", "recent", "evaluations", "saved_at")
        checkpoint.save(self.checkpoint, {
            "config": asdict(self.config), "agent": learner.agent.state_dict(),
            "average": learner.average.state_dict(), "optimizer": learner.optimizer.state_dict(),
            "updates": learner.updates, "draw": learner.draw.generator.get_state(),
            "explore": self.explore.get_state(), "replay": self.replay.state_dict(),
            "episodes": self.envs.episodes - int(self.first.sum()),
            **{name: getattr(self, name) for name in plain}})

    def load(self):
        """Take up a run where its checkpoint left it."""
        saved = checkpoint.load(self.checkpoint)
        wanted = asdict(self.config)
        checkpoint.check_same(self.checkpoint, saved["config"], wanted,
                              ["env", "size", *[k for k in wanted if k not in FREE_TO_CHANGE | {"env", "size"}]])
        learner = self.learner
        learner.agent.load_state_dict(saved["agent"])
        learner.average.load_state_dict(saved["average"])
        learner.optimizer.load_state_dict(saved["optimizer"])
        learner.updates = saved["updates"]
        learner.draw.generator.set_state(saved["draw"])
        self.explore.set_state(saved["explore"])
        self.replay.load_state_dict(saved["replay"])
        self.replay.cut()
        self.envs.episodes, self.envs.steps = saved["episodes"], saved["step"]
        for name in ("step", "began", "seconds", "log_size", "sums", "recent", "evaluations", "saved_at"):
            setattr(self, name, saved[name])

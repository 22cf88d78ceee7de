"""The training loop: act, store, learn at the train ratio, log, evaluate, save, resume."""

import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from ..config import SIZES
from ..learner import Learner
from . import checkpoint
from .collect import CollectorError, acting
from .compiled import compile_update
from .envs import declared_bounds
from .evaluate import decimals, evaluate
from .memory import keep_memory
from .paths import run_folder, shown
from .recorded import record_gradient
from .records import Records, hardware, versions, write_summary
from .replay import Replay
from .validate import ConfigError, validate, validate_for

FREE_TO_CHANGE = {"steps", "output", "resume", "device", "threads", "compile", "async_envs", "env_timeout",
                  "collector", "log_every", "eval_every", "eval_episodes", "final_episodes"}       # a resumed run may differ in these


def pick_device(name):
    """auto: CUDA when there is one, else the CPU; mps has to be asked for. Raises ConfigError."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[name]:
        raise ConfigError(f"--device {name} is not available on this machine; use cpu or auto")
    return name


def derived_seed(*numbers):
    """A seed that follows from `numbers` alone, so that nothing else has to be remembered."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class Run:
    """One training run of one seed in one folder.

    Raises ConfigError, TaskError (guard.py), CheckpointError (checkpoint.py), DivergenceError (records.py) or
    OSError (the folder cannot be written). `command`: the command line, for summary.json. `watchers`: functions that are
    called as watch(run, event, values) after "start", "log", "evaluate", "save" and "end"; values is what
    was written, a dict. One that sets run.enough to a reason, a text, ends the training there.
    """

    def __init__(self, config, command=None, watchers=()):
        validate(config)
        self.watchers, self.enough = tuple(watchers), ""
        self.command = shlex.join(sys.argv) if command is None else command
        self.device = pick_device(config.device)
        keep_memory()
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config = replace(config, output=config.output or str(run_folder(config.env, config.seed)))
        self.folder = Path(self.config.output)
        self.checkpoint = self.folder / "checkpoint.pt"
        environments, collector = acting(config.collector)
        self.envs = environments(config.env, config.envs, config.seed, config.async_envs, config.env_timeout)
        validate_for(config, self.envs.spec)
        self.prepare_folder()                   # only now: a task that cannot be played leaves no folder behind
        self.learner = Learner(self.envs.spec, self.envs.actions, self.envs.discrete, config, self.device)
        self.replay = self.make_replay()
        self.collector = collector(self.envs, self.replay, self.learner, config)
        self.records = Records(self.folder, config.steps)
        if config.compile:
            compile_update(self.learner, self.records.say)
        if self.device == "cuda":
            record_gradient(self.learner, self.records.say)
        self.evaluations = []
        self.began, self.saved_at = None, 0     # steps at which training began, at the last checkpoint
        self.written = ""                       # what tells that checkpoint from others

    @property
    def step(self):
        return self.envs.steps                  # environment steps so far, resets not counted

    def prepare_folder(self):
        """Make sure the folder can be written; remove what a kill in mid-write has left there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "metrics.jsonl").open("ab").close()
        for name in ("checkpoint.pt.tmp", "summary.json.tmp"):
            (self.folder / name).unlink(missing_ok=True)

    def make_replay(self):
        config, size = self.config, SIZES[self.config.size]
        try:
            return Replay(config.capacity, config.envs, self.envs.spec, self.envs.actions, size.deter,
                          config.stoch, config.batch_length, config.seed)
        except RuntimeError:            # torch's way to say that there is not so much memory
            raise ConfigError(f"--capacity {config.capacity} needs more memory than this machine has") from None

    # ------------------------------------------------------------------ the loop

    def train(self):
        """Run to the last step, evaluate fresh episodes, write summary.json. Returns the summary."""
        try:
            self.take_up()
            self.collector.begin()
            with self.records.open(self.step):
                while self.step < self.config.steps and not self.enough:
                    self.advance()
            if self.step > self.saved_at:       # else it is a finished run that was taken up: nothing is new
                self.save()
            summary = self.finish()
        except BaseException as error:
            self.envs.close(interrupted=True)
            if isinstance(error, CollectorError) and self.step > self.saved_at:
                self.save()
            raise
        self.envs.close()
        return summary

    def advance(self):
        """One step in every environment, and whatever is due after it."""
        self.save_if_due()
        before = self.step
        self.collector.step(random=before < self.config.prefill)
        self.learn()
        self.records.tick(self.step)
        if self.passed(before, self.config.log_every):
            self.tell("log", self.records.write(self.step, self.learner.updates, self.envs.episodes, self.collector.recent))
        if self.passed(before, self.config.eval_every):
            self.evaluate()

    def tell(self, event, values):
        for watch in self.watchers:
            watch(self, event, values)

    def passed(self, before, interval):
        """Was a multiple of `interval` reached since step `before`?"""
        return self.step // interval > before // interval

    # ------------------------------------------------------------------ learning

    def updates_due(self):
        """How many updates the steps so far have earned: the first one when training begins, and from then on train_ratio / (B T) for
        every environment step (the official code counts rows, those of resets, too). When it begins, the observations' scale is fixed."""
        per_update = self.config.batch_size * self.config.batch_length
        if self.began is None:
            if self.step < self.config.prefill or self.replay.windows().sum() < per_update:
                return 0
            self.began = self.step
            self.measure()
        return 1 + int((self.step - self.began) * self.config.train_ratio / per_update)

    def learn(self):
        """Sample, update, and put the fresh latents back in their rows, until nothing is due.

        If another update is due its batch is prepared while a GPU still works on this one; its first state is not.
        """
        due = self.updates_due()
        ready = self.draw_if_due(due)
        while ready:
            batch, place = ready
            metrics, latents = self.learner.update(batch, self.replay.before(place, self.device))
            ready = self.draw_if_due(due)
            self.replay.write_back(place, *latents)
            self.records.add(metrics)

    def draw_if_due(self, due):
        return self.replay.draw(self.config.batch_size, self.device) if self.learner.updates < due else None

    def measure(self):
        """Fix the scale of vector observations from the rows of the prefill."""
        if not (self.config.standardize and self.config.prefill and self.envs.spec.vector):
            return
        rows = torch.cat([self.replay.rows["obs_vector"][i, :n] for i, n in enumerate(self.replay.count.tolist())])
        rows, bounds = rows.to(self.device), torch.as_tensor(declared_bounds(self.envs.space), device=self.device)
        for agent in (self.learner.agent, self.learner.average):
            agent.world_model.standardize.measure(rows, bounds)

    # ------------------------------------------------------------------ evaluation

    def scores(self, episodes, seed):
        """Returns of fresh episodes of the averaged agent, in environments of their own."""
        return {mode: evaluate(self.learner.average, self.config.env, episodes, seed, mode == "greedy", self.device,
                               self.config.async_envs and bool(self.envs.spec.image), self.config.env_timeout)
                for mode in ("greedy", "sampled")}

    def evaluate(self):
        scores = self.scores(self.config.eval_episodes, derived_seed(self.config.seed, 1, self.step))
        self.evaluations.append({"step": self.step, **scores})
        means = ", ".join(f"{mode} {np.mean(found):.{decimals(*scores.values())}f}" for mode, found in scores.items())
        self.records.say(f"{self.folder.name} step {self.step}: mean return {means}")
        self.tell("evaluate", self.evaluations[-1])

    def finish(self):
        """Evaluate the final agent and write summary.json."""
        config = replace(self.config, device=self.device, threads=torch.get_num_threads())
        summary = {
            "task": config.env, "seed": config.seed, "size": config.size, "steps": self.step,
            "updates": self.learner.updates, "seconds": self.records.seconds, "command": self.command,
            "config": asdict(config), "versions": versions(), "hardware": hardware(self.device),
            "evaluations": self.evaluations,
            "final": self.scores(config.final_episodes, derived_seed(config.seed, 2)),
            **({"stopped": self.enough} if self.enough else {})}
        write_summary(self.folder / "summary.json", summary)
        self.tell("end", summary)
        return summary

    # ------------------------------------------------------------------ checkpoints

    def save_if_due(self):
        """With one environment a checkpoint waits for the end of an episode: nothing is cut, and a
        resumed run is the same as one that never stopped. An episode that outlasts ten intervals
        between checkpoints is truncated for it. Several environments are never all between
        episodes: there the ones in progress are cut if the run is resumed.
        """
        waited = self.step - self.saved_at
        if waited < self.config.checkpoint_every:
            return
        if self.config.envs == 1 and not self.collector.between_episodes:
            if waited < 10 * self.config.checkpoint_every:
                return
            self.collector.truncate()
        self.save()

    def save(self):
        """Write the checkpoint. Raises OSError, CheckpointError if another process has written there, or DivergenceError:
        what has diverged never replaces what is sound."""
        self.records.means(self.step)
        checkpoint.check_own(self.checkpoint, self.written)
        learner = self.learner
        self.written = checkpoint.save(self.checkpoint, {
            "config": asdict(self.config), "agent": learner.agent.state_dict(),
            "average": learner.average.state_dict(), "optimizer": learner.optimizer.state_dict(),
            "updates": learner.updates, "draw": learner.draw.generator.get_state(),
            "replay": self.replay.state_dict(), "collector": self.collector.state_dict(),
            "records": self.records.state_dict(), "evaluations": self.evaluations,
            "began": self.began, "saved_at": self.step, "hardware": hardware(self.device)}, keep=checkpoint.previous(self.checkpoint))
        self.saved_at = self.step
        self.tell("save", {"step": self.step, "path": str(self.checkpoint)})

    def take_up(self):
        """Go on from the last checkpoint, if there is one and it is wanted."""
        if not self.config.resume:
            checkpoint.remove(self.checkpoint)
            (self.folder / "summary.json").unlink(missing_ok=True)
        elif checkpoint.exists(self.checkpoint):
            self.load()
        self.written = checkpoint.mark(self.checkpoint)
        self.tell("start", {"step": self.step})

    def load(self):
        """Take up a run where its checkpoint left it. Raises CheckpointError if it does not fit."""
        (path, saved), wanted = checkpoint.load_last(self.checkpoint), asdict(self.config)
        try:
            checkpoint.check_same(path, saved["config"], wanted, [n for n in wanted if n not in FREE_TO_CHANGE])
            self.restore(saved)
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            raise checkpoint.CheckpointError(f"{path} was written by another version of the course "
                                             f"({type(error).__name__}); delete it to start anew") from None
        if self.step >= self.config.steps + self.config.envs:
            raise ConfigError(f"{shown(self.folder)} holds a run of {self.step} steps, not {self.config.steps}; "
                              "use another --output folder, or --no-resume to start anew")
        self.records.say(f"{self.folder.name}: going on from {path.name} of step {self.step}")
        if (planned := saved["config"]["steps"]) != self.config.steps and min(self.config.lr_end, self.config.entropy_end) < 1:
            self.records.say(f"it was planned with {planned:,} steps, not {self.config.steps:,}: learning rate and entropy bonus "
                             "jump to where this plan has them")

    def restore(self, saved):
        learner = self.learner
        learner.agent.load_state_dict(saved["agent"])
        learner.average.load_state_dict(saved["average"])
        learner.optimizer.load_state_dict(saved["optimizer"])
        learner.updates, self.evaluations = saved["updates"], saved["evaluations"]
        checkpoint.restore_draw(learner, saved["draw"], derived_seed(self.config.seed, 9, learner.updates), self.records.say)
        self.replay.load_state_dict(saved["replay"])
        self.collector.load_state_dict(saved["collector"])
        self.records.load_state_dict(saved["records"])
        self.began, self.saved_at = saved["began"], saved["saved_at"]

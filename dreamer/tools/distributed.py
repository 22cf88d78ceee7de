"""One run on several processors or machines: torchrun --nproc-per-node 2 -m dreamer.tools.distributed --env ...

Every process, a *rank*, has environments, a replay buffer and draws of its own, from a seed of its own. All ranks make
every update together, each on its own batch: the gradients are averaged before the optimiser's step, so the parameters
stay the same to the last bit. Two things that learning needs are no means over a batch, and are taken from what all
ranks have: the percentiles of the returns, and the scale of the observations.

All flags count for each rank: R ranks with --steps S --batch-size B take R S environment steps in all, and make as many
updates as one process with --steps S, each on R B sequences. The train ratio and the falling learning rate, functions
of steps and updates, are therefore those of one process; the learning rate itself is not scaled.

One folder, which all ranks must see: metrics, evaluations, checkpoints of the model and the summary are rank 0's;
rank-1 and so on in it hold the replay buffers and metrics of the others. The same command goes on from there.
"""

import os
import shlex
import signal
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from ..config import Config
from ..training import checkpoint
from ..training.checkpoint import CheckpointError
from ..training.cli import guarded, report
from ..training.collect import CollectorError
from ..training.envs import TaskError
from ..training.flags import parse_flags
from ..training.loop import Run, derived_seed, pick_device
from ..training.paths import run_folder, shown
from ..training.records import write_summary
from ..training.validate import ConfigError
from .ranks import all_agree, check_equal, connect_learner, follow_rank_0, others, said_by_rank_0

PATIENCE = timedelta(hours=1)       # that ranks wait for each other: for an evaluation, or a slow environment
NEEDED = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}      # what torchrun tells its processes


class RankRun(Run):
    """A Run that takes every step and makes every update together with those of the other ranks."""

    def __init__(self, config, command=None):
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        folder = Path(config.output or run_folder(config.env, config.seed))
        if self.rank:
            folder = folder / f"rank-{self.rank}"
            config = replace(config, seed=derived_seed(config.seed, 4, self.rank))
        super().__init__(replace(config, output=str(folder)), command)
        connect_learner(self.learner)

    def advance(self):
        try:
            super().advance()
        except CollectorError as error:     # a rank alone cannot save
            raise TaskError(str(error)) from None

    def updates_due(self):
        """Training begins at the first step at which every rank has enough rows."""
        if self.began is None and self.step >= self.config.prefill and not all_agree(self.enough_rows()):
            return 0
        return super().updates_due()

    def enough_rows(self):
        return self.replay.windows().sum() >= self.config.batch_size * self.config.batch_length

    def measure(self):
        """Only the agent has measured the rows of all ranks; its averaged copy takes over what was found."""
        super().measure()
        scale = self.learner.agent.world_model.standardize
        self.learner.average.world_model.standardize.load_state_dict(scale.state_dict())

    def evaluate(self):
        if not self.rank:
            super().evaluate()

    def finish(self):
        """Rank 0 evaluates the final agent and returns the summary; the others have done their part."""
        if self.rank:
            return None
        summary = {**super().finish(), "ranks": self.ranks}
        write_summary(self.folder / "summary.json", summary)
        return summary

    # ------------------------------------------------------------------ checkpoints

    def save_if_due(self):
        """At the same step in every rank, so in the middle of episodes: they are cut if the run is resumed."""
        if self.step - self.saved_at >= self.config.checkpoint_every:
            self.save()

    def save(self):
        """The other ranks their replay buffers, then rank 0 checkpoint.pt: only with that do they count."""
        check_equal(self.learner.optimizer.parameters)
        if self.rank:
            self.save_rows()
        all_agree()
        if not self.rank:
            super().save()
        all_agree()
        self.remove_rows()

    def rows_file(self):
        return self.folder / f"rows-{self.saved_at:012}.pt"

    def save_rows(self):
        """Everything that is this rank's own."""
        self.records.means(self.step)
        self.saved_at = self.step
        checkpoint.save(self.rows_file(), {
            "draw": self.learner.draw.generator.get_state(), "replay": self.replay.state_dict(),
            "collector": self.collector.state_dict(), "records": self.records.state_dict()})

    def restore_rows(self):
        saved = checkpoint.load(self.rows_file())
        seed = derived_seed(self.config.seed, 9, self.learner.updates)
        checkpoint.restore_draw(self.learner, saved["draw"], seed, self.records.say)
        self.replay.load_state_dict(saved["replay"])
        self.collector.load_state_dict(saved["collector"])
        self.records.load_state_dict(saved["records"])

    def remove_rows(self):
        """Delete what was saved after `saved_at`, and all before but the last two: rank 0 keeps two checkpoints."""
        files = sorted(self.folder.glob("rows-*.pt"))
        wanted = [file for file in files if file <= self.rows_file() and self.saved_at][-2:]
        for file in {*files, *self.folder.glob("rows-*.tmp")} - set(wanted):
            file.unlink()

    def take_up(self):
        """Rank 0 finds the checkpoint, the others the replay buffers that belong to it; all take the model of rank 0."""
        if not self.rank:
            super().take_up()
            if not self.config.resume:          # also those of ranks that take no part any more
                for file in self.folder.glob("rank-*/rows-*.pt"):
                    file.unlink()
            self.check_ranks()
        self.saved_at, self.began = said_by_rank_0((self.saved_at, self.began))
        follow_rank_0(self.learner)
        if self.rank:
            if self.saved_at:
                self.restore_rows()
            self.remove_rows()

    def check_ranks(self):
        """Raise CheckpointError unless the checkpoint was written by as many ranks."""
        found = 1 + len(list(self.folder.glob(f"rank-*/{self.rows_file().name}")))
        if self.saved_at and found != self.ranks:
            raise CheckpointError(f"{shown(self.folder)} holds a run of {found} rank(s), not {self.ranks}; use torchrun "
                                  f"--nproc-per-node {found}, or another --output folder")


# ------------------------------------------------------------------ the command

def connect(device):
    """Join the ranks that torchrun has started. Raises ConfigError."""
    if not NEEDED <= set(os.environ):
        raise ConfigError("one run of several processes is started by torchrun: torchrun --nproc-per-node 2 -m "
                          "dreamer.tools.distributed --env CartPole-v1")
    if device == "mps":
        raise ConfigError("--device mps has no means to share gradients between ranks; use --device cpu")
    if device == "cuda":
        here, there_are = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if here >= there_are:
            raise ConfigError(f"every rank needs a GPU of its own and this machine has {there_are}; use torchrun "
                              f"--nproc-per-node {there_are}, or --device cpu")
        torch.cuda.set_device(here)
    with others():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=PATIENCE)


def interrupt_once(number, frame):
    """torchrun hands on a Ctrl-C that the terminal has sent to every rank already."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def work(argv, runs):
    """Train as one rank of a run; see `cli.guarded`."""
    config, run = parse_flags(Config(), argv, __doc__), None
    connect(pick_device(config.device))
    if dist.get_rank():
        os.environ["DREAMER_QUIET"] = "1"
    command = f"torchrun --nproc-per-node {dist.get_world_size()} -m dreamer.tools.distributed {shlex.join(argv)}"
    signal.signal(signal.SIGINT, interrupt_once)
    try:
        run = RankRun(config, command)
        summary = run.train()
    except KeyboardInterrupt:
        if run and not run.rank:
            print(f"\nstopped at step {run.step}; to go on from step {run.saved_at}:\n  "
                  f"{command.replace(' --no-resume', '').replace(' --no_resume', '')}", file=sys.stderr)
        sys.exit(130)
    if not run.rank:
        report(summary, run.folder)
    dist.destroy_process_group()


def main():
    """Run, and end at once if that failed: threads that still wait for a rank that is gone could end this one by a signal."""
    code = guarded(work)
    if code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

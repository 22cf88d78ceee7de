"""--collector process: acting in a process of its own, beside training.

The loop of the course acts and trains in turn. Here another process, the collector, holds the environments and
plays a *stretch* of steps while the trainer learns from the stretch before:

    trainer      order 2 | learn from stretch 1 | order 3 | learn from stretch 2 | order 4 | ...
    collector            | play stretch 2       |         | play stretch 3       |         | ...

An order carries the averaged weights of its moment, its answer the rows and latents of every step. Whoever is done
first waits for the other. The trainer takes the rows one step at a time and learns after each, as without a process,
so the train ratio is the same at every step. Everything follows from the number of steps and nothing from time: a
seed gives the same run again. Stretches are so short that the weights which act are at most BEHIND updates behind
those that would act without this process. The collector's own side is in collector_worker.py.
"""

import io
import pickle
import signal
from collections import deque
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker, util

import cloudpickle
import torch

from ..training.collect import CollectorError
from ..training.envs import registered
from ..training.loop import derived_seed
from ..training.workers import PATIENCE
from .collector_worker import collect, send_weights

SPAWN = get_context("spawn")        # a fresh process: the one way that works on every system and with CUDA
BEHIND = 16                         # updates that the acting weights may lack
LONGEST = 64                        # steps of a stretch, in every environment


class RemoteEnvironments:
    """What the trainer knows of environments in the collector's process: spaces, counters, and how they end.

    Takes the arguments of `Environments` and starts the process. Raises CollectorError.
    """

    def __init__(self, env_id, count, *others):
        self.pipe, theirs = SPAWN.Pipe()
        task = cloudpickle.dumps(registered(env_id))
        self.process = SPAWN.Process(target=collect, args=(theirs, task, (env_id, count, *others)), name="collector")
        with deaf_to_ctrl_c():
            self.process.start()
        theirs.close()
        # Also called when nobody refers to this object any more, and before Python waits for its processes at exit.
        self.hang_up = util.Finalize(self, end, (self.process, self.pipe), exitpriority=10)
        self.count, self.steps, self.episodes = count, 0, 0
        (self.space, self.spec, self.actions, self.discrete), _ = self.answer()

    def answer(self):
        """What the collector sends next, and what went wrong after it, a text. Raises CollectorError if that is all."""
        try:
            while not self.pipe.poll(0.2):
                if not self.process.is_alive() and not self.pipe.poll():
                    raise EOFError
            result, trouble = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            result, trouble = None, f"the collector's process {self.fate()} after environment step {self.steps}"
        if trouble and not result:
            raise CollectorError(trouble)
        return result, trouble

    def fate(self):
        """How the process came to its end, in words."""
        self.process.join(PATIENCE)
        code = self.process.exitcode
        return "has hung up" if code is None else f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"

    def close(self, interrupted=False):
        """End the process, in the middle of a stretch if need be."""
        self.hang_up()


@contextmanager
def deaf_to_ctrl_c():
    """A process started meanwhile never hears Ctrl-C, not even before its first line: that is the trainer's affair."""
    if not hasattr(signal, "pthread_sigmask"):          # Windows: what `collect` does at its start has to do
        yield
        return
    resource_tracker.ensure_running()                   # its start would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(process, pipe):
    """Hang up. A process that has not left after PATIENCE seconds is stuck in a step, and is ended."""
    pipe.close()
    for insist in (lambda: None, process.terminate, process.kill):
        insist()
        process.join(PATIENCE)
        if not process.is_alive():
            return


class RemoteCollector:
    """The interface of `Collector`; the playing is done elsewhere, ahead of what is stored here.

    oldest: the most updates that the acting weights have lacked so far.
    """

    def __init__(self, envs, replay, learner, config):
        self.envs, self.replay, self.learner, self.config = envs, replay, learner, config
        self.length = longest_stretch(config.train_ratio / (config.batch_size * config.batch_length) * envs.count)
        self.recent, self.state, self.oldest = [], None, 0
        self.ready, self.ordered, self.trouble = deque(), None, ""

    def begin(self):
        """Start a new episode everywhere."""
        agent = io.BytesIO()
        torch.save(self.learner.average, agent)
        self.send((agent.getvalue(), self.config, self.state, derived_seed(self.config.seed, 3, self.envs.steps)))
        self.state, _ = self.envs.answer()

    @property
    def between_episodes(self):
        """May a checkpoint be written? Always: the collector is ahead, a resumed run cuts what is in progress."""
        return True

    def step(self, random):
        """Store one step of every environment, as `Collector.step` does. Raises CollectorError."""
        if not self.ready:
            self.fetch(random)
        version, rows, self.state, self.envs.episodes = self.ready.popleft()
        self.envs.steps, self.recent = self.state["steps"], self.state["recent"]
        for row, streams in rows:
            self.replay.add(row, torch.as_tensor(streams))
        if not random:
            self.oldest = max(self.oldest, self.learner.updates - version)

    def fetch(self, random):
        """Wait for the stretch that is due, and order the next before this one is learned from."""
        if self.trouble:
            raise CollectorError(self.trouble)
        if self.ordered is None:
            self.order(max(1, self.left(self.envs.steps, random)), random)
        steps, self.trouble = self.envs.answer()
        self.ready.extend((self.ordered, *step) for step in steps)
        left = self.left(self.envs.steps + len(steps) * self.envs.count, random)
        self.ordered = None
        if self.length and left > 0 and not self.trouble:
            self.order(left, random)

    def left(self, start, random):
        """Steps of all environments from environment step `start` to the end of the run, or of the prefill.

        The agent's first stretch is never ordered ahead: it waits for what is measured and learned from the last
        random one.
        """
        end = min(self.config.prefill, self.config.steps) if random else self.config.steps
        return -(-(end - start) // self.envs.count)                             # rounded up

    def order(self, most, random):
        """Have a stretch of at most `most` steps played with the weights of this moment."""
        self.ordered = self.learner.updates
        self.send((min(LONGEST if random else self.length or 1, most), random))
        if not random:
            with suppress(OSError):
                send_weights(self.envs.pipe, self.learner.average)

    def send(self, message):
        with suppress(OSError):         # it has died: the answer that does not come will say so
            self.envs.pipe.send_bytes(pickle.dumps(message))

    def state_dict(self):
        """That of the collector after the step that was stored last."""
        return self.state

    def load_state_dict(self, state):
        """Call `begin` afterwards. Episodes in progress are cut in the replay buffer: truncated."""
        self.state, self.recent = state, state["recent"]
        self.envs.steps, self.envs.episodes = state["steps"], state["episodes"]
        self.replay.cut()


def longest_stretch(earned):
    """Steps per stretch where a step of all environments earns so many updates; 0: none is played ahead.

    At its last step a stretch of n, ordered before the n steps in front of it were learned from, lacks what
    2 n - 1 steps earn: at most 1 + (2 n - 1) earned updates. Without playing ahead acting and learning take turns.
    """
    return min(LONGEST, int(((BEHIND - 1) / earned + 1) / 2))

"""The side of collector_process.py that acts: it plays what is ordered and sends every row."""

import io
import pickle
from contextlib import suppress
from types import SimpleNamespace

import torch
from gymnasium.envs.registration import EnvSpec, registry

from ..distributions import Draw
from ..training.collect import Collector
from ..training.envs import Environments
from ..training.guard import told
from ..training.memory import keep_memory
from ..training.workers import follow_parent

PIECE = 4 << 20         # numbers in one message of weights, 16 MB: pipes of Windows refuse twice as much


def collect(pipe, task, arguments):
    """The whole process: make the environments, then play what is ordered until the trainer hangs up.

    task: pickled, what `registered` knows of the task: a fresh process knows nothing of a reader's own module.
    """
    follow_parent()
    keep_memory()
    torch.set_num_threads(1)
    envs = None
    try:
        task = pickle.loads(task)
        if isinstance(task, EnvSpec):
            registry[task.id] = task
        envs = Environments(*arguments)
        send(pipe, (envs.space, envs.spec, envs.actions, envs.discrete))
        collector = take_up(pipe, envs)
        while play(pipe, collector):
            pass
    except (EOFError, ConnectionError):     # the trainer has hung up
        pass
    except Exception as error:
        with suppress(OSError):
            send(pipe, None, told(error))
    finally:
        if envs:
            envs.close(interrupted=True)


def send(pipe, result, trouble=""):
    pipe.send_bytes(pickle.dumps((result, trouble)))


def take_up(pipe, envs):
    """The Collector that goes on where `RemoteCollector.begin` says, at the start of new episodes."""
    agent, config, state, seed = pickle.loads(pipe.recv_bytes())
    agent = torch.load(io.BytesIO(agent), weights_only=False)
    device = next(agent.parameters()).device
    draw = Draw(torch.Generator(device).manual_seed(seed))
    collector = Collector(envs, Outbox(), SimpleNamespace(agent=agent, average=agent, draw=draw, device=device), config)
    if state:
        collector.load_state_dict(state)
    collector.begin()
    send(pipe, collector.state_dict())
    return collector


def play(pipe, collector):
    """Play one order and answer with all its steps, or with those before an error. Returns whether to go on."""
    count, random = pickle.loads(pipe.recv_bytes())
    if not random:
        receive_weights(pipe, collector.learner.average)
    steps, trouble = [], ""
    for _ in range(count):
        if pipe.poll():                 # nothing is ever sent in mid-stretch: the trainer has hung up
            return False
        try:
            collector.step(random)
        except Exception as error:
            trouble = told(error)
            break
        steps.append((collector.replay.take(), collector.state_dict(), collector.envs.episodes))
    send(pipe, steps, trouble)
    return not trouble


class Outbox:
    """Stands in for the replay buffer: keeps the rows of one step, in its types, until they are sent."""

    kinds = {"deter": torch.float16, "stoch": torch.uint8}

    def __init__(self):
        self.rows = []

    def add(self, row, streams):
        row = {key: torch.as_tensor(value).to("cpu", self.kinds.get(key)).numpy() for key, value in row.items()}
        self.rows.append((row, streams.numpy()))

    def take(self):
        rows, self.rows = self.rows, []
        return rows

    def cut(self):
        """Episodes that a stop left unfinished are cut where the rows are: by the trainer."""


# ------------------------------------------------------------------ weights

def acting_tensors(agent):
    """What an agent needs to act, in a fixed order: scale of observations, encoder, RSSM and actor."""
    model = agent.world_model
    parts = (model.standardize, model.encoder, model.rssm, agent.actor)
    return [tensor for part in parts for tensor in part.state_dict().values()]


def send_weights(pipe, agent):
    flat = torch.cat([tensor.flatten() for tensor in acting_tensors(agent)]).cpu()
    for piece in flat.split(PIECE):
        pipe.send_bytes(piece.numpy())


def receive_weights(pipe, agent):
    tensors = acting_tensors(agent)
    sizes = [tensor.numel() for tensor in tensors]
    flat = torch.empty(sum(sizes))
    for piece in flat.split(PIECE):
        pipe.recv_bytes_into(piece.numpy())
    for tensor, new in zip(tensors, flat.split(sizes)):
        tensor.copy_(new.view_as(tensor))

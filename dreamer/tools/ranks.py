"""What the ranks of a distributed run do together: average gradients, share statistics, agree (see distributed.py)."""

from contextlib import contextmanager

import torch
import torch.distributed as dist

from ..training.envs import TaskError
from ..training.guard import first_line
from ..training.records import DivergenceError


class RankError(TaskError):
    """Another rank is gone."""


@contextmanager
def others():
    """For everything that ranks do together. Raises RankError if one of them does not take part."""
    try:
        yield
    except RuntimeError as error:       # how torch.distributed says that a connection is closed, or that time is up
        raise RankError("another rank of this run has ended, and this one with it; that rank says why, and the same "
                        f"command goes on from the last checkpoint ({first_line(error)})") from None


def average_gradients(parameters):
    """.grad of every parameter becomes its mean over the ranks: one message for all of them."""
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    with others():
        dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for p, mean in zip(parameters, flat.split([p.numel() for p in parameters])):
        p.grad = mean.view_as(p)


def everywhere(values):
    """`values` of all ranks, of the same shape in each, joined along the first axis."""
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    with others():
        dist.all_gather(parts, values)
    return torch.cat(parts)


def rows_everywhere(rows):
    """The same for (n, V) with another n in each rank."""
    parts = [None] * dist.get_world_size()
    with others():
        dist.all_gather_object(parts, rows.cpu().numpy())
    return torch.cat([torch.from_numpy(part) for part in parts]).to(rows)


def said_by_rank_0(value):
    """`value` of rank 0, anything that can be pickled."""
    with others():
        dist.broadcast_object_list(box := [value], src=0)
    return box[0]


def all_agree(yes=True):
    """Is `yes` true in every rank? Returns when all have been asked."""
    flag = torch.tensor(int(yes))
    with others():
        dist.all_reduce(flag, dist.ReduceOp.MIN)
    return bool(flag)


def check_equal(parameters):
    """Raise DivergenceError unless the bits of each parameter add up to the same number in every rank."""
    low = torch.stack([p.detach().view(torch.int32).long().sum() for p in parameters]).cpu()
    high = low.clone()
    with others():
        dist.all_reduce(low, dist.ReduceOp.MIN)
        dist.all_reduce(high, dist.ReduceOp.MAX)
    if not torch.equal(low, high):
        raise DivergenceError("the parameters of the ranks are no longer the same, as may happen on processors of "
                              "different kinds; use machines of one kind")


def connect_learner(learner):
    """Make one update of those of all ranks: shared gradients, percentiles of returns, scale of observations."""
    optimizer, norm, scale = learner.optimizer, learner.agent.return_norm, learner.agent.world_model.standardize
    step, update, measure = optimizer.step, norm.update, scale.measure

    def averaged_step(left=1.0):
        average_gradients(optimizer.parameters)
        return step(left)
    learner.__dict__.pop("gradient", None)      # on CUDA: what is recorded once would leave out the messages of all later updates
    optimizer.step = averaged_step
    norm.update = lambda returns: update(everywhere(returns.flatten()))
    scale.measure = lambda rows, bound: measure(rows_everywhere(rows), bound)


def follow_rank_0(learner):
    """Take over all weights and the state of the optimiser."""
    optimizer = learner.optimizer
    for tensor in (*learner.agent.state_dict().values(), *learner.average.state_dict().values(),
                   *optimizer.nu, *optimizer.mu):
        with others():
            dist.broadcast(tensor, src=0)
    optimizer.step_count, learner.updates = said_by_rank_0((optimizer.step_count, learner.updates))

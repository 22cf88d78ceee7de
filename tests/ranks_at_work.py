"""What each of the two ranks of test_distributed.py does, and what it is compared with."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

import toys
from dreamer.distributions import Mode
from dreamer.learner import Learner
from dreamer.tools import distributed, ranks
from dreamer.training.records import DivergenceError
from dreamer.world_model.encoder import ObservationSpec

BATCH, LENGTH, STARTS = 3, 8, 10        # of each rank


def subject(kind=torch.float64):
    """A learner whose heads are not zero any more: at its first update most gradients would be. kind: of its numbers."""
    config = replace(toys.tiny(), return_rate=1.0, warmup=0, cold_starts=0.0, imagination_horizon=5)
    learner = Learner(ObservationSpec(vector=4), 3, True, config)
    noise, agent = torch.Generator().manual_seed(7), learner.agent
    with torch.no_grad():
        for p in agent.parameters():
            p += 0.05 * torch.randn(p.shape, generator=noise)
        for head in (agent.world_model.reward, agent.critic, agent.slow_critic):
            head.out.weight += 0.3 * torch.randn(head.out.weight.shape, generator=noise)
            head.out.bias -= 2 * (torch.linspace(-20, 20, len(head.out.bias)) - 2) ** 2      # some 6, never millions
    agent.to(kind)
    learner.average.to(kind)
    return learner


def joint_batch(kind=torch.float64):
    """Rows of both ranks, the second rank's of another size: (2 B, T), and the states before them."""
    draw, rows = torch.Generator().manual_seed(3), (2 * BATCH, LENGTH)
    flags = torch.rand(3, *rows, generator=draw) < 0.15
    vector = torch.randn(*rows, 4, generator=draw)
    vector[BATCH:] = 3 * vector[BATCH:] + 1
    batch = {"obs": {"vector": vector}, "prev_action": torch.eye(3)[torch.randint(3, rows, generator=draw)],
             "reward": 20 * torch.randn(rows, generator=draw), "is_first": flags[0], "is_last": flags[1] | flags[2],
             "is_terminal": flags[2]}
    state = torch.randn(2 * BATCH, 64, generator=draw), torch.eye(4)[torch.randint(4, (2 * BATCH, 4), generator=draw)]
    batch["obs"]["vector"], batch["reward"] = vector.to(kind), batch["reward"].to(kind)
    return batch, tuple(s.to(kind) for s in state)


def starts():
    """Where each rank dreams from: indices into its own B T states."""
    draw = torch.Generator().manual_seed(5)
    return [torch.randperm(BATCH * LENGTH, generator=draw)[:STARTS] for _ in range(2)]


def share(rank, kind=torch.float64):
    """The rank's own half of the joint batch."""
    batch, state = joint_batch(kind)
    own = slice(rank * BATCH, (rank + 1) * BATCH)
    batch = {key: {k: v[own] for k, v in value.items()} if key == "obs" else value[own] for key, value in batch.items()}
    return batch, tuple(s[own] for s in state)


def gradients(learner, batch, state, begin):
    """The gradient that reaches the optimiser's own step, as one vector."""
    found = []

    def step(left=1.0):
        found.append(torch.cat([p.grad.flatten() for p in learner.optimizer.parameters]))
        return torch.zeros(())
    learner.optimizer.step = step
    if dist.is_initialized() and dist.get_world_size() == 2:
        ranks.connect_learner(learner)
    total, *rest = learner.agent.loss(batch, state, Mode(), begin)
    total.backward()
    learner.apply(*rest)
    return found[0]


def lines(folder):
    """metrics.jsonl without its times."""
    read = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "updates_per_second")} for line in read]


# ------------------------------------------------------------------ a rank

def work(rank, folder):
    """Everything that is looked at, in one process: written to rank-RANK.pt."""
    toys.use_tiny_size()
    torch.set_num_threads(1)
    learner = subject()
    alone = gradients(learner, *share(rank), starts()[rank])
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(minutes=5))
    found = {kind: gradients(subject(kind), *share(rank, kind), starts()[rank]) for kind in (torch.float64, torch.float32)}
    found |= {"alone": alone, "scale alone": float(learner.agent.return_norm.scale)}
    found |= whole_run(folder)
    torch.save(found, Path(folder) / f"rank-{rank}.pt")
    dist.destroy_process_group()


def whole_run(folder):
    """A run of 80 steps, its parameters after every update, and what is made of parameters that differ."""
    run = distributed.RankRun(toys.tiny(output=f"{folder}/run", eval_every=1000, final_episodes=1))
    parameters, seen, update, measure = [], [], run.learner.update, run.measure

    def watched(*arguments):
        result = update(*arguments)
        parameters.append(flat(run.learner.agent))
        return result

    def measured():
        seen.append(run.replay.rows["obs_vector"][0, :int(run.replay.count[0])].clone())
        measure()
    run.learner.update, run.measure = watched, measured
    run.train()
    scale = run.learner.average.world_model.standardize
    return {"parameters": parameters, "average": flat(run.learner.average), "updates": run.learner.updates, "seen": seen[0],
            "rows": run.replay.state_dict()["rows"], "count": int(run.replay.count[0]), "began": run.began, "steps": run.step,
            "return range": run.learner.agent.return_norm.range, "mean": scale.mean, "std": scale.std, "drifted": drift(run)}


def flat(agent):
    return torch.cat([p.detach().flatten() for p in agent.parameters()])


def drift(run):
    """What is said when one bit of one parameter differs in rank 1."""
    parameters = run.learner.optimizer.parameters
    if run.rank:
        with torch.no_grad():
            parameters[3].view(-1)[0] = torch.nextafter(parameters[3].view(-1)[0], torch.tensor(9.0))
    try:
        ranks.check_equal(parameters)
    except DivergenceError as error:
        return str(error)

"""How fast this code learns on the machine at hand: python benchmarks/throughput.py

Everything is measured in one run. Sides that are compared take turns (update, floor, update, floor,
...), and what is quoted is the median of their times and of the ratios within a turn: a machine
that others use as well slows both sides of a turn alike. The floor is the time of the same matrix
products alone, see products.py: 28.6 GFLOP per update of the official recipe.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))     # to run as a script, from any folder

import dreamer  # noqa: F401 (before torch: it sets how long idle threads spin)
import torch

from benchmarks import compiled
from benchmarks.pixels import pixels, sentence
from benchmarks.products import Recipe, count, floor, gigaflop
from dreamer.behavior.imagination import imagine
from dreamer.config import OFFICIAL, Config
from dreamer.learner import Learner
from dreamer.optimizer import follow
from dreamer.training.memory import keep_memory
from dreamer.training.replay import Replay
from dreamer.world_model.encoder import ObservationSpec

VECTOR, ACTIONS = 4, 2


@dataclass
class Plan:
    """How much to measure."""
    turns: int = 9          # turns of update and floor
    sweep: int = 5          # updates per point of a sweep
    acts: int = 200         # steps of acting


FULL, QUICK, TINY = Plan(), Plan(turns=3, sweep=2, acts=60), Plan(turns=1, sweep=1, acts=40)


def timed(work):
    """Milliseconds that work() takes, and what it returns."""
    start = time.perf_counter()
    result = work()
    return (time.perf_counter() - start) * 1e3, result


def median(work, times):
    return statistics.median(timed(work)[0] for _ in range(times))


class Subject:
    """A learner of a recipe with a batch in memory."""

    def __init__(self, config):
        self.config, self.learner = config, Learner(ObservationSpec(vector=VECTOR), ACTIONS, True, config)
        rows = config.batch_size, config.batch_length
        flag = lambda: torch.rand(rows) < 0.02
        actions = torch.eye(ACTIONS)[torch.randint(ACTIONS, rows)]
        self.batch = {"obs": {"vector": torch.randn(*rows, VECTOR)}, "prev_action": actions,
                      "reward": torch.ones(rows), "is_first": flag(), "is_last": flag(), "is_terminal": flag()}
        rssm = self.learner.agent.world_model.rssm
        self.state = torch.zeros(rows[0], rssm.deter), torch.zeros(rows[0], rssm.stoch, dtype=torch.long)

    def update(self):
        return self.learner.update(self.batch, self.state)

    def replay(self):
        """A replay buffer with four times as many rows as a batch."""
        rssm, config = self.learner.agent.world_model.rssm, self.config
        size = 4 * config.batch_size * (config.batch_length + 1)
        replay = Replay(size, 1, ObservationSpec(vector=VECTOR), ACTIONS, rssm.deter, rssm.stoch, config.batch_length)
        for store in replay.rows.values():
            store.zero_()
        replay.count += size
        return replay


def compare(config, turns):
    """A full update against its floor, in turns."""
    subject, products = Subject(config), count(Recipe(config, VECTOR, ACTIONS))
    sides = {"update": subject.update, "floor": floor(products)}
    for work in sides.values():
        work()
    times = {name: [] for name in sides}
    for _ in range(turns):
        for name, work in sides.items():
            times[name].append(timed(work)[0])
    update, bare = (statistics.median(times[name]) for name in sides)
    ratio = statistics.median(a / b for a, b in zip(*times.values()))
    return {"update_ms": update, "floor_ms": bare, "ratio": ratio, "gflop": gigaflop(products),
            "steps_per_second": config.batch_size * config.batch_length / update * 1e3}


def parts(config, times):
    """Milliseconds of the pieces of an update."""
    subject = Subject(config)
    subject.update()
    found = [part_times(subject) for _ in range(times)]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def part_times(subject):
    learner, batch, config = subject.learner, subject.batch, subject.config
    agent, draw = learner.agent, learner.draw
    state = agent.world_model.rssm.initial(config.batch_size)
    starts = learner.pick_starts(batch)
    starts = torch.arange(batch["reward"].numel()) if starts is None else starts
    found = {}
    found["world model, forward"], (losses, model) = timed(lambda: agent.world_model.loss(batch, state, draw))
    begin = [model[name].detach().flatten(0, 1)[starts] for name in ("deter", "stoch")]
    found["imagination"], _ = timed(
        lambda: imagine(agent.world_model.rssm, agent.actor, *begin, config.imagination_horizon, draw))
    alive = torch.ones(len(starts))
    dream, (policy, value, returns, _) = timed(lambda: agent.dream(model, starts, alive, draw))
    replayed, repval = timed(lambda: agent.replay_value(batch, model["feature"], returns[0], starts))
    found["actor and critic, forward"] = dream - found["imagination"] + replayed
    found["world model, backward"], _ = timed(agent.total({**losses, "repval": repval}).backward)
    found["actor and critic, backward"], _ = timed((policy.mean() + value.mean()).backward)
    found["optimiser and averages"], _ = timed(lambda: (
        learner.optimizer.step(), follow(agent.slow_critic, agent.critic, 0.02), follow(learner.average, agent, 0.01)))
    replay = subject.replay()
    sample, (_, _, place) = timed(lambda: replay.sample(config.batch_size))
    latents = model["deter"].detach(), model["stoch"].detach().argmax(-1)
    found["replay, sample and write back"] = sample + timed(lambda: replay.write_back(place, *latents))[0]
    return found


def acting(config, times):
    """Milliseconds of one step in one environment, with an update in between: as in a run."""
    subject = Subject(config)
    agent, draw = subject.learner.agent, subject.learner.draw
    obs, action, first = {"vector": torch.randn(1, VECTOR)}, torch.zeros(1, ACTIONS), torch.zeros(1, dtype=torch.bool)
    state = agent.world_model.rssm.initial(1)
    act = lambda: agent.act(obs, state, action, first, draw)
    steps, updates = [], []
    for step in range(times):
        if step % 20 == 0:
            updates.append(timed(subject.update)[0])
        steps.append(timed(act)[0])
    act_ms, update_ms = statistics.median(steps), statistics.median(updates[1:])
    return {"act_ms": act_ms, "update_ms": update_ms, "ratio": act_ms / update_ms}


def threads(config, turns):
    """The same update with one thread and with two, in turns."""
    subject, before, times = Subject(config), torch.get_num_threads(), {1: [], 2: []}
    subject.update()
    for _ in range(turns):
        for number, found in times.items():
            torch.set_num_threads(number)
            found.append(timed(subject.update)[0])
    torch.set_num_threads(before)
    one, two = (statistics.median(found) for found in times.values())
    return {"one_ms": one, "two_ms": two, "speedup": statistics.median(a / b for a, b in zip(*times.values()))}


def sweep(config, field, values, times):
    """Milliseconds of an update against one number of the recipe."""
    found = {}
    for value in values:
        subject = Subject(replace(config, **{field: value}))
        subject.update()
        found[str(value)] = median(subject.update, times)
    return found


def on_a_gpu(config, sizes, turns, say, device="cuda", backend=None):
    """What a run on CUDA makes of an update with pictures, recorded or compiled, in turns with the one that starts kernel by kernel.

    Of a size but the first the sequences are four times as long. Where one way is not possible its reason is said, and both
    sides of its turns are the same.
    """
    found = {}
    for name in sizes:
        shape, found[name] = replace(config, size=name, batch_length=config.batch_length * (1 if name == sizes[0] else 4)), {}
        for way in ("recorded", "compiled"):
            result = compiled.measure(shape, True, turns, device, compiled.faster(device, way == "recorded", backend, say))
            found[name][way] = result
            say(compiled.sentence(shape, True, result, device, way == "recorded"))
    return found


def measure(plan, recipes, sizes=("1m", "12m"), say=print):
    """Everything, said line by line and returned as one dictionary. recipes: name -> Config."""
    found = {"threads": torch.get_num_threads(), "torch": torch.__version__, "recipes": {}}
    for name, config in recipes.items():
        batch = f"{config.batch_size} x {config.batch_length}"
        found["recipes"][name] = result = compare(config, plan.turns)
        say(f"{name} recipe ({config.size}, batch {batch}, {config.starts or 'all'} starts): one update "
            f"{result['update_ms']:.0f} ms, {result['steps_per_second']:.0f} replayed steps per second")
        say(f"  the {result['gflop']:.1f} GFLOP of its matrix products alone: {result['floor_ms']:.0f} ms; "
            f"update / floor = {result['ratio']:.2f}")
        result["parts_ms"] = parts(config, plan.turns)
        for part, ms in result["parts_ms"].items():
            say(f"  {part:32s}{ms:8.1f} ms")
        result["threads"] = pair = threads(config, plan.turns)
        say(f"  one thread {pair['one_ms']:.0f} ms, two threads {pair['two_ms']:.0f} ms: {pair['speedup']:.2f} times as fast")
    course = recipes["course"]
    found["acting"] = act = acting(course, plan.acts)
    say(f"acting in one environment: {act['act_ms']:.2f} ms a step, {act['ratio']:.4f} of an update of the course's recipe")
    found["pixels"] = {}
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        found["pixels"][device] = pictures = pixels(course, plan.turns, device)
        say(f"course recipe, {sentence(pictures, device)}")
    if torch.cuda.is_available():
        found["on a GPU"] = on_a_gpu(course, sizes, plan.turns, say, backend="eager" if plan is TINY else None)
    grid = {"batch_size": [course.batch_size // 2, course.batch_size, course.batch_size * 2],
            "batch_length": [course.batch_length // 2, course.batch_length, course.batch_length * 2],
            "size": list(sizes)}
    found["sweep"] = {field: sweep(course, field, values, plan.sweep) for field, values in grid.items()}
    for field, points in found["sweep"].items():
        say(f"course recipe, {field}: " + ", ".join(f"{value} {ms:.0f} ms" for value, ms in points.items()))
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer turns: a minute, and noisier")
    parser.add_argument("--tiny", action="store_true", help="toy shapes: only to see that it runs")
    parser.add_argument("--threads", type=int, default=1, help="threads of everything but the comparison of threads")
    parser.add_argument("--json", help="write all numbers into this file")
    flags = parser.parse_args(arguments)
    keep_memory()
    torch.set_num_threads(flags.threads)
    recipes, sizes = {"official": Config(**OFFICIAL), "course": Config()}, ("1m", "12m")
    if flags.tiny:
        toy = dict(batch_size=2, batch_length=4, starts=4, imagination_horizon=3)
        recipes, sizes = {name: replace(config, **toy) for name, config in recipes.items()}, ("1m",)
    found = measure(TINY if flags.tiny else QUICK if flags.quick else FULL, recipes, sizes)
    if flags.json:
        with open(flags.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; nothing is kept of what was not finished")

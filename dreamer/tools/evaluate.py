"""python -m dreamer evaluate: returns of fresh episodes of a trained agent, and films of them."""

import json
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from tyro.conf import Positional, arg

from ..training.envs import TaskError, make
from ..training.evaluate import decimals, evaluate, play
from ..training.loop import derived_seed, pick_device
from ..training.paths import shown
from ..visual.render import no_window, shrink
from . import video
from .options import at_least, import_tasks, read
from .runs import find

FILMED, FAST = 3, 30        # greedy episodes in a film; pictures a second where the task does not say how many


@dataclass(frozen=True)
class EvaluateOptions:
    """Returns of fresh episodes of a trained agent: mean, standard deviation, minimum and maximum."""
    run: Annotated[Positional[str], arg(metavar="RUN")] = ""
    """folder of a run, a checkpoint, or the task of a shipped agent"""
    episodes: int = 20
    """fresh episodes, both greedy (the mode of the actor) and sampled"""
    seed: int = 0
    """seed of the episodes: other ones than those of any training run"""
    json: bool = False
    """print JSON, every return included, and nothing else"""
    record: str = ""
    """write a film of three more greedy episodes: a file that ends in .gif or .mp4"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes CUDA when there is one, else the CPU"""
    import_: Annotated[str, arg(name="import")] = ""
    """module to import first, for the tasks that it registers; also one of the current folder"""


def work(argv, runs):
    """Evaluate what the command line argv names; runs: see `cli.guarded`."""
    options = read(EvaluateOptions, argv)
    at_least(1, episodes=options.episodes)
    at_least(0, seed=options.seed)
    if options.record:
        video.check(options.record)
    import_tasks(options.import_)
    agent, config, path = find(options.run)
    device = pick_device(options.device)
    agent.to(device)
    speed = pictures_a_second(config.env) if options.record else None
    found = judge(agent, config, options, device)
    if options.record:
        found["record"] = options.record
        video.save(film(agent, config.env, options, device), options.record, speed)
    if options.json:
        print(json.dumps({"run": str(path), **found}, indent=1))
    else:
        report(found, path)


def judge(agent, config, options, device):
    """Returns of fresh episodes and what they amount to, greedy and sampled: a dict."""
    found = {"task": config.env, "seed": options.seed, "episodes": options.episodes}
    for mode in ("greedy", "sampled"):
        returns = evaluate(agent, config.env, options.episodes, derived_seed(options.seed, 6), mode == "greedy", device)
        found[mode] = {"mean": float(np.mean(returns)), "std": float(np.std(returns)), "min": min(returns),
                       "max": max(returns), "returns": returns}
    return found


def report(found, path):
    print(f"{found['task']}, {path}: returns of {found['episodes']} fresh episodes\n\n"
          "            mean      std      min      max")
    digits = decimals(found["greedy"]["returns"], found["sampled"]["returns"])
    for mode in ("greedy", "sampled"):
        print(f"{mode:<8}" + "".join(f"{found[mode][name]:9.{digits}f}" for name in ("mean", "std", "min", "max")))
    if "record" in found:
        print(f"\nfilm of {FILMED} greedy episodes: {shown(found['record'])}")


# ------------------------------------------------------------------ films

def film(agent, env_id, options, device):
    """Yield the pictures of FILMED greedy episodes, one episode after the other. Raises TaskError."""
    smaller = shrink if options.record.lower().endswith(".gif") else Image.fromarray
    for number in range(FILMED):
        with no_window():
            for step in play(agent, env_id, 1, derived_seed(options.seed, 6, number + 1), True, device, render=True):
                yield smaller(step["pictures"][0])


def pictures_a_second(env_id):
    """How fast the task is meant to be shown. Raises TaskError if it draws no pictures."""
    env = make(env_id)
    env.close()
    if "rgb_array" not in env.metadata.get("render_modes", ()):
        raise TaskError(f"{env_id} draws no pictures (it has no render_mode 'rgb_array'), so there is nothing to film")
    return env.metadata.get("render_fps") or FAST

"""python -m dreamer dream: what a model says with its eyes closed, beside what really came, as a moving picture."""

from dataclasses import dataclass
from typing import Annotated

import torch
from tyro.conf import Positional, arg

from ..distributions import Draw
from ..training.envs import TaskError
from ..training.loop import derived_seed
from ..training.paths import run_folder, shown
from ..visual import triptych
from ..visual.episodes import record
from ..visual.openloop import open_loop, segments
from ..visual.render import SETTERS, beside
from . import dream_curves, video
from .options import at_least, import_tasks, read
from .runs import find

EPISODES, SAMPLES, FAST = 4, 8, 15      # fresh episodes to choose from, dreams drawn as curves, pictures a second


@dataclass(frozen=True)
class DreamOptions:
    """An open-loop dream beside reality, as a moving picture."""
    run: Annotated[Positional[str], arg(metavar="RUN")] = ""
    """folder of a run, a checkpoint, or the task of a shipped agent"""
    output: str = ""
    """file to write, .gif or .mp4; dream-TASK.gif in the current folder if empty"""
    context: int = 5
    """rows that the model sees before it closes its eyes"""
    horizon: int = 75
    """rows that it predicts from the actions alone, or fewer if no episode is so long"""
    seed: int = 0
    """seed of the episode and of the dream"""
    import_: Annotated[str, arg(name="import")] = ""
    """module to import first, for the tasks that it registers; also one of the current folder"""


def work(argv, runs):
    """Draw the dream that the command line argv asks for; runs: see `cli.guarded`."""
    options = read(DreamOptions, argv)
    at_least(1, context=options.context, horizon=options.horizon)
    at_least(0, seed=options.seed)
    if options.output:
        video.check(options.output)
    import_tasks(options.import_)
    agent, config, path = find(options.run)
    output = options.output or f"dream-{run_folder(config.env, 0).name.removesuffix('-0')}.gif"
    episode, seed = choose(agent, config.env, options)
    horizon = min(options.horizon, len(episode) - options.context)
    images, how = draw(agent, config.env, episode, options.context, horizon, seed)
    video.save(images, output, FAST)
    print(f"{config.env}, {path}: {options.context} rows seen, {horizon} dreamed, {how}\nfile: {shown(output)}")


def choose(agent, env_id, options):
    """The longest of a few fresh greedy episodes, and the seed of its reset. Raises TaskError if it is too short."""
    seed, wanted = derived_seed(options.seed, 8), options.context + options.horizon
    episodes = record(agent, env_id, EPISODES, seed, longest=wanted - 1)
    number = max(range(EPISODES), key=lambda i: len(episodes[i]))
    if len(episodes[number]) <= options.context:
        raise TaskError(f"the episodes of {env_id} have no more than {len(episodes[number])} rows: after --context "
                        f"{options.context} nothing is left to dream of")
    return episodes[number], derived_seed(seed, number)


def draw(agent, env_id, episode, context, horizon, seed):
    """The images, and in words how they were drawn: by the task's own renderer, as pictures, or else as curves."""
    generator = Draw(torch.Generator().manual_seed(seed))
    try:
        if env_id in SETTERS and "vector" in episode.obs:
            return beside(agent, env_id, episode, context, horizon, generator, seed), "drawn by the task's own renderer"
        parts = triptych.pictures(env_id, *triptych.dream(agent, episode, context, horizon, generator))
        return triptych.frames(*parts), "drawn as pictures"
    except TaskError as error:          # nothing can draw it, or a package is missing
        why = error
    rows = segments([episode], context + horizon, every=len(episode))
    said = open_loop(agent, rows, context, generator, SAMPLES)
    return dream_curves.images(env_id, rows, said, context), f"drawn as curves of {SAMPLES} dreams ({why})"

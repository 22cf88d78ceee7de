"""Lesson 4: look inside the trained agents: what their latents know, and how their dreams compare with reality.

Goal            See with your own eyes what a world model has learned: which physical quantities its latents
                hold, how far its dreams can be trusted, and what its critic expects.
Read before     Lessons 1 to 3; dreamer/visual/episodes.py, openloop.py, maps.py and look.py.
Time            About 20 seconds per task on one CPU core.

What you should see
    04_tsne_TASK.png      a map of latents: states of one colour, one physical quantity, lie together
    04_fan_TASK.png       30 dreams of 45 steps after 5 rows of looking: a band that widens, and reality,
                          which should lie within it 75 % of the time (maps.fair_share)
    04_reward_TASK.png    predicted against real rewards, 1 to 15 steps after the eyes closed
    04_value_TASK.png     the critic along an episode beside the return that really came, and the
                          probability of going on, which falls where a pole falls or Acrobot's tip arrives
    04_dream_TASK.gif     reality left, a dream right, both drawn by the task's own renderer
Everything comes from fresh episodes that no agent was trained on. What is called a dream never looked
again after its first 5 rows; only map, critic and probability of going on are judged with open eyes.
This is the bar, and it is tried: dreams of the same draws must be the same, number for number, if all that
was to be seen after these rows is noise.
The pictures also show what was not learned: with closed eyes LunarLander's rewards are predicted no better
than by their mean, and its landings come as a surprise.

Files written   the five of each task above, in assets/ (or --output)
Next            05_dreamer_acrobot.py: what if nearly every reward says the same?

Try             python 04_visualize.py --env Pendulum-v1            one task only
                python 04_visualize.py --seed 1 --output runs/seed-1        your runs of seed 1, the shipped agent where there is none
"""

import sys
from dataclasses import dataclass, fields

import torch

from dreamer.config import Config
from dreamer.training import paths
from dreamer.training.checkpoint import CheckpointError
from dreamer.training.cli import guarded
from dreamer.training.envs import TaskError
from dreamer.training.flags import ask_tyro, read_flags
from dreamer.training.shipping import find_agent, load_agent, shipped
from dreamer.training.validate import ConfigError, suggestion
from dreamer.visual import maps
from dreamer.visual.look import CONTEXT, Look


@dataclass(frozen=True)
class Flags:
    """Those of lesson 2 that mean something where nothing is trained, and one more."""
    env: str = ""
    """look at this task only"""
    seed: int = 0
    """whose run, and of the fresh episodes"""
    output: str = ""
    """folder of the pictures; empty: assets"""
    shipped: bool = False
    """the agent of the course, whatever there is in runs/"""


def parse_flags(argv):
    """The Flags of a command line. Raises ConfigError with one sentence."""
    takes = [field.name for field in fields(Flags)]
    for name, _ in read_flags(argv, (Flags, Config)):
        if name.rstrip("_").removeprefix("no_") not in takes:
            raise ConfigError(f"--{name.replace('_', '-')} is for training, and this lesson trains nothing: it takes "
                              f"{', '.join(f'--{known}' for known in takes)}")
    flags = ask_tyro(Flags(), argv, __doc__, "04_visualize.py")
    if flags.env not in ("", *maps.TASKS):
        raise ConfigError(f"--env must be one of {', '.join(maps.TASKS)}, not {flags.env}{suggestion(flags.env, maps.TASKS)}")
    if flags.seed < 0:
        raise ConfigError(f"--seed must be 0 or more, not {flags.seed}")
    return flags


def look(env_id, seed, folder, course=False):
    """Draw everything there is to see of one task. Raises CheckpointError or TaskError if it cannot even begin."""
    agent, _, path = (*load_agent(shipped(env_id)), shipped(env_id)) if course else find_agent(env_id, seed)
    print(f"{env_id}: {paths.shown(path)}" + ", which comes with the course (seed 0)" * (path == shipped(env_id))
          + f": runs/ has none of seed {seed}" * (path == shipped(env_id) and not course), flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    view = Look(env_id, agent, seed, folder)
    for kind in ("tsne", "fan", "reward", "value"):
        getattr(view, kind)()
        print(f"  {paths.shown(view.path(kind))}", flush=True)
    try:
        view.dream()
        print(f"  {paths.shown(view.path('dream', 'gif'))}", flush=True)
    except TaskError as error:
        print(f"  no moving picture: {error}")
    same = view.closed_eyes()
    print(f"{'bar met:     ' if same else 'bar not met: '}{env_id}, fresh episodes; the dreams of its fan are "
          f"{'the same' if same else 'others'} if all that comes after row {CONTEXT} is noise")


def work(argv, runs):
    flags = parse_flags(argv)
    torch.set_num_threads(1)
    drawn = 0
    for env_id in [flags.env] if flags.env else maps.TASKS:
        try:
            look(env_id, flags.seed, paths.pictures(flags.output), flags.shipped)
            drawn += 1
        except (CheckpointError, TaskError) as error:
            print(f"{env_id} is skipped: {error}")
    if not drawn:
        raise CheckpointError("nothing could be drawn; the lines above say why")


def main(argv=None):
    """Draw, name the files, judge; argv: flags, those of the command line if None. Returns the exit code."""
    return guarded(work, argv)


if __name__ == "__main__":
    sys.exit(main())

"""Lesson 4: look inside the trained agents: what their latents know, and how their dreams compare with reality.

Goal            See with your own eyes what a world model has learned: which physical quantities its latents
                hold, how far its dreams can be trusted, and what its critic expects.
Read before     Lessons 1 to 3; dreamer/visual/episodes.py, openloop.py and maps.py.
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
The pictures also show what was not learned: with closed eyes LunarLander's rewards are predicted no better
than by their mean, and its landings come as a surprise.

Files written   the five of each task above, in assets/ (or --output)
Next            05_dreamer_acrobot.py: what if nearly every reward says the same?

Try             python 04_visualize.py --env Pendulum-v1            one task only
                python 04_visualize.py --seed 1                     the run of seed 1, if you have trained it
"""

import argparse
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from dreamer.distributions import Draw
from dreamer.training import paths
from dreamer.training.checkpoint import CheckpointError
from dreamer.training.cli import guarded
from dreamer.training.envs import TaskError
from dreamer.training.loop import derived_seed
from dreamer.training.shipping import find_agent, load_agent, shipped
from dreamer.training.validate import ConfigError, suggestion
from dreamer.visual import maps
from dreamer.visual.episodes import record
from dreamer.visual.render import beside, save_gif

GREEDY, RANDOM, LONGEST = 12, 60, 200       # held-out episodes of each kind; random ones are stopped at so many steps
STATES = 800                                # on the map, of each kind
CONTEXT, HORIZON, SAMPLES = 5, 45, 30       # rows looked at, steps dreamed, dreams in a fan
REWARD_HORIZON, FRAMES = 15, 80


class Flags(argparse.ArgumentParser):
    def error(self, message):
        raise ConfigError(f"{message} (--help lists all flags)")


def parse_flags(argv):
    """Options env (None: all), seed and output. Raises ConfigError with one sentence."""
    parser = Flags(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--env", help="look at this task only")
    parser.add_argument("--seed", type=int, default=0, help="whose run, and of the fresh episodes")
    parser.add_argument("--shipped", action="store_true", help="the agent of the course, whatever there is in runs/")
    parser.add_argument("--output", type=Path, default=paths.ROOT / "assets", help="folder of the pictures")
    options = parser.parse_args(argv)
    if options.env not in (None, *maps.TASKS):
        raise ConfigError(f"--env must be one of {', '.join(maps.TASKS)}, not {options.env}"
                          f"{suggestion(options.env, maps.TASKS)}")
    if options.seed < 0:
        raise ConfigError(f"--seed must be 0 or more, not {options.seed}")
    return options


# ------------------------------------------------------------------ the five pictures

class Look:
    """One agent, its held-out episodes, and the folder for what they show."""

    def __init__(self, env_id, agent, seed, folder):
        self.env_id, self.agent, self.folder, self.task = env_id, agent, folder, maps.TASKS[env_id]
        self.seed = derived_seed(seed, 4)       # of no training and no evaluation episode
        self.draw = Draw(torch.Generator().manual_seed(self.seed))
        self.greedy = record(agent, env_id, GREEDY, self.seed)
        self.random = record(None, env_id, RANDOM, derived_seed(seed, 5), longest=LONGEST)

    def path(self, kind, ending="png"):
        return self.folder / f"04_{kind}_{self.env_id}.{ending}"

    def save(self, figure, kind, caption):
        figure.suptitle(f"{self.env_id}: {caption}", fontsize=10)
        figure.savefig(self.path(kind), dpi=100)

    def tsne(self):
        groups = [maps.states(self.agent, episodes, self.draw, STATES) for episodes in (self.greedy, self.random)]
        feature, seen = (torch.cat(parts) for parts in zip(*groups))
        place, figure = maps.tsne(feature), Figure((10, 4.6), layout="constrained")
        for axis, (label, quantity) in zip(figure.subplots(1, 2), self.task.quantities.items()):
            maps.draw_map(axis, place, quantity(seen).numpy(), label, label in self.task.cyclic)
        self.save(figure, "tsne", f"t-SNE of {len(feature)} latents (h, z), {len(groups[0][0])} of greedy and "
                  f"{len(groups[1][0])} of random held-out episodes")

    def fan(self):
        said, count = maps.fan(self.agent, self.greedy, CONTEXT, HORIZON, SAMPLES, self.draw), len(self.task.names)
        columns = {3: 3, 4: 2, 6: 3, 8: 4}[count]
        figure = Figure((3.6 * columns, 2.6 * (count // columns) + 0.5), layout="constrained")
        axes = figure.subplots(count // columns, columns)
        maps.draw_fan(axes, said, self.task.names)
        axes.flat[0].legend(frameon=False, fontsize=7)
        self.save(figure, "fan", f"{SAMPLES} dreams with the recorded actions, eyes closed since step {CONTEXT}\n"
                  f"reality lies in the band {100 * maps.inside(said):.0f} % of the time (over {len(said['real'])} "
                  f"held-out episodes; {100 * maps.fair_share(SAMPLES):.0f} % would be exact)")

    def reward(self):
        figure = Figure((10, 4), layout="constrained")
        predicted, real = maps.rewards(self.agent, self.greedy + self.random, CONTEXT, REWARD_HORIZON, self.draw)
        maps.draw_rewards(figure.subplots(1, 2), predicted, real)
        self.save(figure, "reward", f"rewards predicted with closed eyes, in {len(real)} pieces of greedy and random "
                  "held-out episodes,\nthe last piece of each that is long enough among them: its final reward stands at the longest horizon")

    def value(self):
        figure = Figure((10, 5), layout="constrained")
        axes = figure.subplots(2, 2, sharex="col", height_ratios=(2, 1))
        for column, name, episode in ((0, "greedy", self.greedy[0]), (1, "random", max(self.random, key=len))):
            ended = "terminated" if episode.is_terminal[-1] else "cut off"
            title = f"{name} actions, {ended} after {len(episode) - 1} steps"
            maps.draw_values(axes[:, column], maps.values(self.agent, episode, self.draw), title)
        self.save(figure, "value", "what the critic expects of the agent, and what really came\n"
                  "(after a cut: the critic's own value of the last state)")

    def dream(self):
        # The number of the episode and the seed of its recording give the seed of its reset, and so the same hills.
        number = max(range(len(self.greedy)), key=lambda i: min(len(self.greedy[i]), FRAMES))
        images = beside(self.agent, self.env_id, self.greedy[number], CONTEXT, FRAMES - CONTEXT, self.draw,
                        derived_seed(self.seed, number))
        save_gif(images, self.path("dream", "gif"))


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


def work(argv, runs):
    options = parse_flags(argv)
    torch.set_num_threads(1)
    drawn = 0
    for env_id in [options.env] if options.env else maps.TASKS:
        try:
            look(env_id, options.seed, options.output, options.shipped)
            drawn += 1
        except (CheckpointError, TaskError) as error:
            print(f"{env_id} is skipped: {error}")
    if not drawn:
        raise CheckpointError("nothing could be drawn; the lines above say why")


def main(argv=None):
    """Draw and name the files; argv: flags, those of the command line if None. Returns the exit code."""
    return guarded(work, argv)


if __name__ == "__main__":
    sys.exit(main())

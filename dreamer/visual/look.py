"""The five pictures of lesson 4: one trained agent, and what its latents, its dreams and its critic make of fresh episodes."""

from dataclasses import replace

import torch
from matplotlib.figure import Figure

from ..distributions import Draw
from ..training.loop import derived_seed
from . import maps
from .episodes import record
from .render import beside, save_gif

GREEDY, RANDOM, LONGEST = 12, 60, 200       # held-out episodes of each kind; random ones are stopped at so many steps
STATES = 800                                # on the map, of each kind
CONTEXT, HORIZON, SAMPLES = 5, 45, 30       # rows looked at, steps dreamed, dreams in a fan
REWARD_HORIZON, FRAMES = 15, 80


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

    def closed_eyes(self):
        """Whether the fans are the same, number for number, if every row after the first CONTEXT shows noise."""
        noisy = [replace(e, obs={key: torch.cat([x[:CONTEXT], torch.randn_like(x[CONTEXT:])]) for key, x in e.obs.items()})
                 for e in self.greedy]
        fans = [maps.fan(self.agent, episodes, CONTEXT, HORIZON, SAMPLES, Draw(torch.Generator().manual_seed(self.seed)))
                for episodes in (self.greedy, noisy)]
        return all(torch.equal(*(fan[band] for fan in fans)) for band in ("low", "median", "high"))

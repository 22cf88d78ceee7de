"""A dream as curves, for tasks that nothing can draw from what the agent sees."""

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ..visual import maps
from ..visual.figures import draw_segment

MOST, DPI, FLAT = 8, 80, 0.2        # numbers of an observation that get a curve; dots per inch; least height of an axis


def images(env_id, rows, said, context):
    """Numbers of the observation, reward and probability of going on, one row more in every image.

    rows: see `segments`, one of them; said: see `open_loop`. No more than MOST numbers are drawn.
    """
    real = rows["obs"].get("vector", torch.zeros(*rows["reward"].shape, 0))[..., :MOST]
    dreamed = said.get("vector", torch.zeros(*said["reward"].shape, 0))[..., :MOST]
    known = maps.TASKS[env_id].names if env_id in maps.TASKS else ()
    names = [*(known or [f"number {i + 1}" for i in range(real.shape[-1])]), "reward", "P(goes on)"]
    figure = Figure((6, 0.9 * len(names) + 0.7), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    draw_segment(axes, {**rows, "obs": {"vector": real}}, {**said, "vector": dreamed}, 0, context)
    for axis, name in zip(axes, names):
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    axes[-1].set(xlabel="steps since the last look", ylim=(-0.1, 1.1))
    axes[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=8)
    return reveal(figure, axes)


def reveal(figure, axes):
    """Draw what is on the axes from left to right, one step more in every image that is yielded."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")
    lines = [(line, *map(np.asarray, line.get_data())) for axis in axes for line in axis.lines]
    for axis in axes:
        low, high = axis.get_ylim()
        half = max(high - low, FLAT) / 2            # no view of rounding noise
        axis.set_ylim((low + high) / 2 - half, (low + high) / 2 + half)
    for now in sorted({x for _, xs, _ in lines for x in xs}):
        for line, x, y in lines:
            line.set_ydata(np.where(x <= now, y, np.nan))
        canvas.draw()
        yield Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())

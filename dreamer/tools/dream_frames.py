"""Dreams as pictures and as curves, for tasks that cannot be drawn by their own renderer (visual/render.py can)."""

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from ..visual import maps
from ..visual.figures import draw_segment
from ..visual.render import BAR, GAP, HEIGHT

MOST, DPI = 8, 80           # numbers of an observation that get a curve; dots per inch


# ------------------------------------------------------------------ pictures

def pictures(real, dream, context):
    """Real picture, dreamed one and their difference, row by row: uint8 (L, 64, 64, C), [0, 1] (H, 64, 64, C).

    Yields L images. Up to row `context` the real picture stands for the dream.
    """
    for t in range(len(real)):
        seen = rgb(real[t])
        said = seen if t < context else rgb((dream[t - context].clamp(0, 1) * 255).round().to(torch.uint8))
        gap = np.abs(seen.astype(int) - said).astype(np.uint8)
        text = "dream: still looking" if t < context else f"dream, eyes closed since {context}"
        yield row([seen, said, gap], [f"real, step {t}", text, "difference"])


def rgb(picture):
    """The first three channels (64, 64, C), or the first one three times."""
    picture = picture.numpy()
    return picture[..., :3] if picture.shape[-1] >= 3 else np.repeat(picture[..., :1], 3, -1)


def row(parts, texts):
    """Small pictures, enlarged, side by side under a bar with a text above each: one image."""
    whole = Image.new("RGB", (len(parts) * (HEIGHT + GAP) - GAP, HEIGHT + BAR), "black")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(size=13)
    for i, (part, text) in enumerate(zip(parts, texts)):
        x = i * (HEIGHT + GAP)
        whole.paste(Image.fromarray(part).resize((HEIGHT, HEIGHT), Image.Resampling.NEAREST), (x, BAR))
        pen.text((x + 6, 3), text, fill="white", font=font)
    return whole


# ------------------------------------------------------------------ curves

def curves(env_id, rows, said, context):
    """Numbers of the observation, reward and probability of going on, drawn up to row t, for every row: yields images.

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
    """Draw what is on the axes from left to right, one step more in every image; limits and layout stay as they are."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")
    lines = [(line, *map(np.asarray, line.get_data())) for axis in axes for line in axis.lines]
    for axis in axes:
        axis.set_ylim(axis.get_ylim())
    for now in sorted({x for _, xs, _ in lines for x in xs}):
        for line, x, y in lines:
            line.set_ydata(np.where(x <= now, y, np.nan))
        canvas.draw()
        yield Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())

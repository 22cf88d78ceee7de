"""Truth, dream and their difference, side by side: an open-loop dream drawn as pictures of any kind (lessons 7 and 8).

Pictures come as they are, symbols of MiniGrid and state vectors of the walker are drawn by their own packages.
"""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..training.envs import TaskError
from .openloop import open_loop, segments
from .render import BAR, GAP, HEIGHT

SCALE = HEIGHT          # pixels along each side of a picture
CELL = 96               # of a picture in a strip


def drawer(env_id, obs):
    """A function that draws one observation, dict of (...), as uint8 (h, w, 3). obs: any, to see what it holds."""
    if "image" in obs and obs["image"].shape[-1] == 3:
        return lambda seen: np.asarray(seen["image"])
    if env_id.startswith("MiniGrid-") and "symbols" in obs:
        from . import grids
        return lambda seen: grids.draw(seen["symbols"])
    if env_id.startswith("walker_") and "vector" in obs:
        from .walker import Painter
        painter = Painter()
        return lambda seen: painter.draw(seen["vector"].numpy())
    raise TaskError(f"{env_id} cannot be drawn from what the agent sees")


def dream(agent, episode, context, horizon, draw):
    """What an episode showed, and what a dream says of it that saw only its first `context` rows.

    Two dicts of observations, (context + H, ...) and (H, ...); H is less than `horizon` if the episode ends before.
    Raises TaskError if it is over before the dream begins.
    """
    if len(episode) <= context:
        raise TaskError(f"an episode of {len(episode)} rows is too short for a dream after {context} rows of looking")
    horizon = min(horizon, len(episode) - context)
    rows = segments([episode], context + horizon, every=len(episode))
    said = open_loop(agent, rows, context, draw)
    dreamed = {key: said[key][0, 0] for key in rows["obs"]}
    if "image" in dreamed:
        dreamed["image"] = (dreamed["image"] * 255).round().to(torch.uint8)
    return {key: value[0] for key, value in rows["obs"].items()}, dreamed


def pictures(env_id, seen, dreamed):
    """Both, drawn: lists of context + H and of H pictures uint8 (h, w, 3). Raises TaskError."""
    draw = drawer(env_id, seen)
    return tuple([draw({key: value[t] for key, value in obs.items()}) for t in range(len(next(iter(obs.values()))))]
                 for obs in (seen, dreamed))


def difference(real, dreamed):
    """Grey where both are the same, brighter where the dream is: uint8 (h, w, 3) x2 -> the same."""
    return ((dreamed.astype(np.int16) - real + 256) // 2).clip(0, 255).astype(np.uint8)


def frames(real, dreamed):
    """The moving picture, an image for each of `real`; while the eyes are open the dream shows what was seen."""
    context = len(real) - len(dreamed)
    shown = [*real[:context], *dreamed]
    images = []
    for t, (truth, said) in enumerate(zip(real, shown)):
        eyes = "still looking" if t < context else f"eyes closed since step {context}"
        texts = f"truth, step {t}", f"dream, {eyes}", "difference"
        images.append(labelled((truth, said, difference(truth, said)), texts))
    return images


def labelled(parts, texts):
    """Pictures side by side under a bar with a text above each: one image."""
    whole = Image.new("RGB", (len(parts) * (SCALE + GAP) - GAP, SCALE + BAR), "black")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(size=13)
    for i, (part, text) in enumerate(zip(parts, texts)):
        whole.paste(enlarged(part, SCALE), (i * (SCALE + GAP), BAR))
        pen.text((i * (SCALE + GAP) + 6, 3), text, fill="white", font=font)
    return whole


def enlarged(picture, size):
    return Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS)


def strip(real, dreamed, count=10):
    """One image: `count` moments from the last one seen to the end, the truth above, what was dreamed of it below.

    Of the moment that was seen last nothing is dreamed: black.
    """
    context = len(real) - len(dreamed)
    ahead = np.unique(np.linspace(0, len(dreamed), count).round().astype(int))
    whole = Image.new("RGB", (len(ahead) * (CELL + GAP) - GAP, 2 * (CELL + GAP) + BAR), "black")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(size=13)
    for column, k in enumerate(ahead):
        x, truth = column * (CELL + GAP), real[context - 1 + k]
        pen.text((x + 4, 3), f"+{k}" if k else "seen last", fill="white", font=font)
        whole.paste(enlarged(truth, CELL), (x, BAR))
        if k:
            whole.paste(enlarged(dreamed[k - 1], CELL), (x, BAR + CELL + GAP))
    for row, text in enumerate(("truth", "dream")):
        pen.text((4, BAR + row * (CELL + GAP) + 2), text, fill="white", stroke_width=1, stroke_fill="black", font=font)
    return whole

"""Open-loop prediction: look at a few rows, close the eyes, and tell what comes. The honest test of a world model.

While the eyes are open the posterior corrects every error, so a picture of decoded *posteriors* says
next to nothing. Here the model sees `context` rows and then only the actions that were really taken.
"""

import torch

from ..distributions import symexp
from ..world_model.rssm import features
from .episodes import observe


def segments(episodes, length, every=1):
    """All windows of `length` rows that lie within one episode, one each `every` rows.

    Returns a dict: obs (dict of (B, length, ...)), prev_action (B, length, A), reward, is_terminal (B, length).
    """
    places = [(e, t) for e in episodes for t in range(0, len(e) - length + 1, every)]
    if not places:
        raise ValueError(f"no episode has {length} rows; the longest has {max(map(len, episodes))}.")

    def cut(of):
        return torch.stack([of(e)[t:t + length] for e, t in places])
    obs = {key: cut(lambda e, key=key: e.obs[key]) for key in episodes[0].obs}
    return {"obs": obs, "prev_action": cut(lambda e: e.prev_action),
            "reward": cut(lambda e: e.reward), "is_terminal": cut(lambda e: e.is_terminal)}


@torch.no_grad()
def open_loop(agent, rows, context, draw, samples=1):
    """Predict rows context ... length-1 of each segment from its first `context` rows and all its actions.

    rows: see `segments`. The state before the first row is the zero state. Returns, for each of
    `samples` dreams, vector (samples, B, H, V) in the task's own units if the task has floats, image (samples, B, H,
    64, 64, C) if it has pictures, symbols (samples, B, H, M), the likeliest ones, if it has symbols, reward
    (samples, B, H) and continues (samples, B, H), the probability that the episode goes on.
    """
    rssm, count = agent.world_model.rssm, len(rows["reward"])
    seen = {k: v[:, :context] for k, v in rows["obs"].items()}
    deter, stoch, _ = observe(agent, seen, rows["prev_action"][:, :context], draw)
    deter, stoch = (x[:, -1].repeat(samples, *[1] * (x.dim() - 2)) for x in (deter, stoch))     # (samples * B, ...)
    states = []
    for t in range(context, rows["reward"].shape[1]):
        # The action that leads to row t is stored with row t: prev_action.
        deter, stoch = rssm.imagine(deter, stoch, rows["prev_action"][:, t].repeat(samples, 1), draw)
        states.append((deter, stoch))
    deter, stoch = (torch.stack(x, 1).unflatten(0, (samples, count)) for x in zip(*states))     # (samples, B, H, ...)
    return decode(agent, deter, stoch)


@torch.no_grad()
def decode(agent, deter, stoch):
    """What the heads say of (..., D), (..., S, C): vector, image, symbols, reward, continues; see `open_loop`."""
    world, feature = agent.world_model, features(deter, stoch)
    output = world.decoder(deter, stoch)
    said = {"reward": world.reward.mean(world.reward(feature)),
            "continues": (world.continue_logit(feature).sigmoid() / world.discount).clamp(max=1)}
    if "vector" in output:
        said["vector"] = symexp(output["vector"]) * world.standardize.std + world.standardize.mean
    if "image" in output:
        said["image"] = output["image"]
    if "symbols" in output:
        said["symbols"] = output["symbols"].argmax(-1)
    return said


def extrapolate(rows, context):
    """Two predictions that need no model: the last row for ever, and the last change for ever. (B, H, V) each."""
    seen = rows["obs"]["vector"]
    ahead = torch.arange(1, seen.shape[1] - context + 1).view(1, -1, 1)
    last, change = seen[:, context - 1:context], seen[:, context - 1:context] - seen[:, context - 2:context - 1]
    return last.expand(-1, ahead.shape[1], -1), last + ahead * change


def changing(scale):
    """Which of V numbers change at all, by their deviations: (V,) -> (V,) bool."""
    return scale > 1e-6


def error(predicted, truth, scale):
    """Root mean square error over segments and numbers, each number in units of `scale` (V,): (..., H, V) -> (H,).

    Numbers that do not change (`changing`) do not count.
    """
    moves = changing(scale)
    squared = ((predicted - truth)[..., moves] / scale[moves]) ** 2
    return squared.flatten(0, -3).mean((0, -1)).sqrt()

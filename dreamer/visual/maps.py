"""What the latents know and what the heads say: maps, probes, fans, rewards and values, computed and drawn.

Every function that computes takes held-out episodes (episodes.py) and returns plain tensors; every
function that draws takes these tensors and the axes to draw on.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from ..behavior.returns import lambda_return
from ..world_model.rssm import features
from .episodes import latents, observe
from .openloop import decode, open_loop, segments

REAL, DREAM, CRITIC = "black", "tab:blue", "tab:orange"


class Task(NamedTuple):
    """What the numbers of an observation mean, and two quantities to colour a map by."""
    names: tuple            # V names
    quantities: dict        # label: function of observations (n, V) -> (n,)
    cyclic: tuple = ()      # labels of those that jump from pi to -pi


def tip_height(o):
    """Acrobot: -cos(theta1) - cos(theta1 + theta2); at more than 1 the task is solved."""
    return -o[:, 0] - (o[:, 0] * o[:, 2] - o[:, 1] * o[:, 3])


def energy(o):
    """Acrobot: kinetic and potential energy in joules; only the torque can change it."""
    cos2, w1, w2 = o[:, 2], o[:, 4], o[:, 5]        # masses, lengths and moments are 1, centres at 1/2
    kinetic = (3.5 + cos2) / 2 * w1 ** 2 + (1.25 + cos2 / 2) * w1 * w2 + 1.25 / 2 * w2 ** 2
    return kinetic - 9.8 * 1.5 * o[:, 0] + 9.8 / 2 * (tip_height(o) + o[:, 0])


TASKS = {
    "CartPole-v1": Task(("cart position", "cart velocity", "pole angle", "pole angular velocity"),
                        {"pole angle (rad)": lambda o: o[:, 2], "cart position (m)": lambda o: o[:, 0]}),
    "Pendulum-v1": Task(("cos(angle)", "sin(angle)", "angular velocity"),
                        {"angle (rad, 0 is upright)": lambda o: torch.atan2(o[:, 1], o[:, 0]),
                         "angular velocity": lambda o: o[:, 2]}, ("angle (rad, 0 is upright)",)),
    "Acrobot-v1": Task(("cos(angle 1)", "sin(angle 1)", "cos(angle 2)", "sin(angle 2)", "velocity 1", "velocity 2"),
                       {"height of the tip": tip_height, "energy": energy}),
    "LunarLander-v3": Task(("x", "y", "velocity x", "velocity y", "angle", "angular velocity", "left leg",
                            "right leg"),
                           {"height": lambda o: o[:, 1], "speed": lambda o: o[:, 2:4].norm(dim=1)}),
}


# ------------------------------------------------------------------ latents: map and probe

@torch.no_grad()
def states(agent, episodes, draw, count=None):
    """Posterior features (n, D + S*C) and observations (n, V) along episodes; `count` of them at random, or all."""
    def pad(of):            # side by side, the short ones filled up: (E, L, ...)
        return pad_sequence([of(e) for e in episodes], batch_first=True)
    seen, exists = pad(lambda e: e.obs["vector"]), pad(lambda e: torch.ones(len(e), dtype=torch.bool))
    deter, stoch, _ = observe(agent, {"vector": seen}, pad(lambda e: e.prev_action), draw)
    feature, seen = features(deter, stoch)[exists], seen[exists]
    chosen = torch.randperm(len(seen), generator=draw.generator)[:count]
    return feature[chosen], seen[chosen]


def tsne(feature, perplexity=30, seed=0):
    """Places (n, 2) on a plane such that neighbours of (n, F) stay neighbours. Distances and sizes mean little."""
    from sklearn.manifold import TSNE
    perplexity = min(perplexity, (len(feature) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(feature.numpy())


def probe(feature, target, new_feature, new_target, ridge=1.0):
    """How much of `target` a straight line reads from `feature`: R^2 on the *new* states, (Q,).

    feature (n, F), target (n, Q): fitted by ridge regression. 1: all of it; 0: no better than the mean.
    """
    x, y, new_x, new_y = (t.double() for t in (feature, target, new_feature, new_target))
    middle, level = x.mean(0), y.mean(0)
    gram = (x - middle).T @ (x - middle) + ridge * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(gram, (x - middle).T @ (y - level))                     # (F, Q)
    missed = new_y - (level + (new_x - middle) @ weight)
    return 1 - (missed ** 2).sum(0) / ((new_y - new_y.mean(0)) ** 2).sum(0)


def draw_map(axis, place, value, label, cyclic=False):
    """Places (n, 2) coloured by a quantity (n,)."""
    # Colours from the 1st to the 99th percentile, so that a single extreme state does not wash out the others.
    low, high = (-np.pi, np.pi) if cyclic else np.quantile(value, (0.01, 0.99))
    colors = {"cmap": "hsv" if cyclic else "viridis", "vmin": low, "vmax": high}
    dots = axis.scatter(*place.T, c=value, s=5, linewidths=0, **colors)
    axis.set(xticks=[], yticks=[], title=label)
    axis.figure.colorbar(dots, ax=axis, shrink=0.8)


# ------------------------------------------------------------------ open loop: fans and rewards

def fan(agent, episodes, context, horizon, samples, draw):
    """Many dreams of the first rows of every episode that is long enough, looked at for `context` rows.

    Returns real (B, context + H, V), low, median and high (B, H, V): the 10th, 50th and 90th percentile of
    the dreams; H is `horizon`, or less if no episode is so long.
    """
    horizon = min(horizon, max(map(len, episodes)) - context)
    rows = segments(episodes, context + horizon, every=max(map(len, episodes)))
    dreams = open_loop(agent, rows, context, draw, samples)["vector"]                   # (samples, B, H, V)
    low, median, high = dreams.quantile(torch.tensor([0.1, 0.5, 0.9]), 0)
    return {"real": rows["obs"]["vector"], "low": low, "median": median, "high": high}


def fair_share(samples):
    """Share of reality that the band of a `fan` holds if the model knows exactly how unsure it is.

    One more draw lies below the i-th smallest of S with probability i / (S + 1), so that what is between their 10th
    and 90th percentile holds it less than 8 times in 10: of 30 dreams 75 %. (Between two draws: nearly so.)
    """
    return 0.8 * (samples - 1) / (samples + 1)


def inside(said):
    """Share of real numbers within the band of a `fan`; see `fair_share`."""
    real = said["real"][:, -said["low"].shape[1]:]
    return float(((real >= said["low"]) & (real <= said["high"])).float().mean())


def draw_fan(axes, said, names, which=0):
    """One panel for each of V numbers, of the episode number `which`."""
    real, low, median, high = (said[k][which] for k in ("real", "low", "median", "high"))
    context = len(real) - len(low)
    ahead = np.arange(context, len(real))
    for v, (axis, name) in enumerate(zip(np.ravel(axes), names)):
        axis.fill_between(ahead, low[:, v], high[:, v], color=DREAM, alpha=0.25, linewidth=0,
                          label="dreams, 10 to 90 %")
        axis.plot(ahead, median[:, v], color=DREAM, linewidth=1.2, label="dreams, median")
        axis.plot(real[:, v], color=REAL, linewidth=1.2, label="real")
        axis.axvline(context - 0.5, color="gray", linewidth=0.8, linestyle=":")         # here the eyes close
        axis.set(title=name, xlabel="step")
        axis.spines[["top", "right"]].set_visible(False)
    first = np.ravel(axes)[0]
    low, high = first.get_ylim()
    first.set_ylim(low, high + 0.4 * (high - low))      # room for a legend above curves and band


def rewards(agent, episodes, context, horizon, draw, samples=8, most=300):
    """Rewards 1 ... H steps after the eyes closed: predicted (mean of the dreams) and real, (B, H) each.

    B is at most `most`: the last window of every episode, because a reward at the end is often a special
    one, and others at random. H is `horizon`, or less if no episode is so long.
    """
    length = min(context + horizon, max(map(len, episodes)))
    rows = segments(episodes, length)
    ends = torch.tensor([len(e) - length + 1 for e in episodes if len(e) >= length]).cumsum(0) - 1
    others = torch.randperm(len(rows["reward"]), generator=draw.generator)
    chosen = torch.cat([ends, others[~torch.isin(others, ends)]])[:most]
    rows = {k: {n: v[chosen] for n, v in x.items()} if k == "obs" else x[chosen] for k, x in rows.items()}
    return open_loop(agent, rows, context, draw, samples)["reward"].mean(0), rows["reward"][:, context:]


def draw_rewards(axes, predicted, real):
    """Left: predicted against real, coloured by the horizon. Right: error along the horizon, and that of the mean."""
    ahead = torch.arange(1, predicted.shape[1] + 1).expand_as(real)
    dots = axes[0].scatter(real.numpy(), predicted.numpy(), c=ahead.numpy(), s=6, linewidths=0, cmap="plasma")
    low, high = float(min(real.min(), predicted.min())), float(max(real.max(), predicted.max()))
    margin = max(0.05 * (high - low), 0.1)          # where all rewards are equal, not a view of rounding errors
    ends = low - margin, high + margin
    axes[0].plot(ends, ends, color="gray", linewidth=0.8)
    axes[0].set(xlabel="real reward", ylabel="predicted reward", xlim=ends, ylim=ends,
                title="all real rewards are equal" if real.std() == 0 else "")
    axes[0].figure.colorbar(dots, ax=axes[0], label="steps since the eyes closed")
    model, mean = ((guess - real).pow(2).mean(0).sqrt() for guess in (predicted, real.mean()))
    axes[1].plot(ahead[0], model, color=DREAM, marker="o", markersize=3, label="world model")
    axes[1].plot(ahead[0], mean, color="gray", linestyle="--", label="always the mean reward")
    axes[1].set(xlabel="steps since the eyes closed", ylabel="root mean square error",
                ylim=(0, max(0.1, 1.1 * float(torch.cat([model, mean]).max()))))
    axes[1].legend(frameon=False, fontsize=8)


# ------------------------------------------------------------------ values

@torch.no_grad()
def values(agent, episode, draw):
    """Along the L + 1 rows of an episode: value (the critic's mean), continues (probability), and what came:
    earned (L,), the discounted rewards up to the last row, and returns (L,), the same plus the critic's value
    of that row if the episode was cut there. A terminated episode has nothing after it: both are equal.
    """
    deter, stoch = latents(agent, episode, draw)
    value = agent.critic.mean(agent.critic(features(deter, stoch)))                     # (L+1,)
    terminal, never = episode.is_terminal.float(), torch.zeros_like(value)

    def came(bootstrap):
        # lambda = 1: the plain sum of discounted rewards; `bootstrap` counts only in the last row.
        return lambda_return(episode.reward, terminal, never, bootstrap, agent.config.discount, 1.0)
    return {"value": value, "continues": decode(agent, deter, stoch)["continues"],
            "earned": came(never), "returns": came(value)}


def draw_values(axes, said, title):
    """Upper axis: value and what came. Lower axis: the predicted probability that the episode goes on."""
    axes[0].plot(said["value"], color=CRITIC, linewidth=1, label="critic")
    axes[0].plot(said["returns"], color=REAL, linewidth=1.2, label="discounted return")
    if not torch.equal(said["earned"], said["returns"]):
        axes[0].plot(said["earned"], color="gray", linewidth=1, linestyle=":", label="the same, nothing after the cut")
    axes[0].set(title=title, ylabel="discounted rewards to come")
    axes[0].legend(frameon=False, fontsize=8)
    axes[1].plot(said["continues"], color=CRITIC, linewidth=1)
    axes[1].set(xlabel="step", ylabel="P(goes on)", ylim=(-0.05, 1.05))

"""The health panel: four questions that tell a healthy agent from a sick one, and which part is at fault.

    open loop       does the world model see ahead, in episodes it has never met?
    KL              does the prior still miss much of what the posterior sees?
    termination     when the model says that an episode ends with probability p, does it end in p of all cases?
    returns         does what the critic and the dreams promise really follow?

A function for each returns numbers, `examine` calls them all, and `draw` paints what they returned."""

import json
from pathlib import Path

import torch
from matplotlib.figure import Figure

from ..behavior.imagination import imagine
from ..behavior.returns import lambda_return
from ..distributions import Draw
from ..training.guard import TaskError
from ..world_model.model import kl_losses
from ..world_model.rssm import features
from .episodes import observe, record
from .openloop import changing, decode, error, extrapolate, open_loop, segments

CONTEXT, HORIZON, SAMPLES = 5, 15, 4        # rows looked at, steps ahead, dreams averaged
WINDOWS, ENDS, STARTS = 400, 6000, 400      # at most so many windows for (a), for (c), starts of dreams for (d)
SMALLEST_BIN = 20                           # rows
CRITICS_SHARE = 0.25                        # the most that the critic's own word may weigh in a "real" return
RED, BLUE, GREY = "#c0392b", "#2471a3", "#999999"


def examine(agent, env_id, episodes=20, seed=0, metrics=None):
    """All four parts on fresh episodes: a dict of dicts of plain numbers.

    metrics: the metrics.jsonl of the run, if it is at hand. Open loop is measured on greedy episodes,
    the rest on sampled ones, since the critic judges the policy that samples.
    """
    return measure(agent, *(record(agent, env_id, episodes, seed, mode) for mode in (True, False)), seed, metrics)


def measure(agent, greedy, sampled, seed=0, metrics=None):
    """The same on recorded episodes, two lists of Episode."""
    draw = Draw(torch.Generator().manual_seed(seed))
    walk = posterior(agent, sampled, draw)
    return {"open loop": open_loop_error(agent, greedy, draw), "KL": kl(agent, walk, metrics),
            "termination": calibration(agent, sampled, walk, draw), "returns": returns(agent, sampled, walk, draw)}


@torch.no_grad()
def posterior(agent, episodes, draw):
    """What the agent thinks in every row of M episodes: a list of M (deter (L+1, D), stoch and logits (L+1, S, C))."""
    longest = torch.arange(max(map(len, episodes)))

    def side_by_side(of):
        return torch.stack([of(e)[longest.clamp(max=len(e) - 1)] for e in episodes])    # padded with the last row
    obs = {key: side_by_side(lambda e, key=key: e.obs[key]) for key in episodes[0].obs}
    walk = observe(agent, obs, side_by_side(lambda e: e.prev_action), draw)
    return [tuple(x[i, :len(e)] for x in walk) for i, e in enumerate(episodes)]


def windows(episodes, most):
    """About `most` segments of CONTEXT + HORIZON rows, evenly spread; shorter ones where every episode is shorter. Raises TaskError."""
    longest = max(map(len, episodes))
    if longest <= CONTEXT:
        raise TaskError(f"episodes of at most {longest} rows are too short for dreams after {CONTEXT} rows of looking")
    length = min(CONTEXT + HORIZON, longest)
    count = sum(max(0, len(e) - length + 1) for e in episodes)
    return segments(episodes, length, every=-(-count // most) or 1)


@torch.no_grad()
def open_loop_error(agent, episodes, draw):             # part (a)
    """Error 1 ... H steps ahead of the mean of SAMPLES dreams: a list, in standard deviations.

    Beside it "no change", and "eyes open": the error of the same rows after looking at them, the least there can be.
    Numbers that never change in these episodes do not count; None if there are no others, or no floats at all.
    """
    if "vector" not in episodes[0].obs:
        return None
    rows = windows(episodes, WINDOWS)
    said = open_loop(agent, rows, CONTEXT, draw, SAMPLES)["vector"].mean(0)             # (B, H, V)
    seen = decode(agent, *observe(agent, rows["obs"], rows["prev_action"], draw)[:2])["vector"][:, CONTEXT:]
    truth, same = rows["obs"]["vector"][:, CONTEXT:], extrapolate(rows, CONTEXT)[0]     # (B, H, V)
    scale = torch.cat([e.obs["vector"] for e in episodes]).std(0)                       # (V,)
    if not changing(scale).any():
        return None
    named = {"model": said, "no change": same, "eyes open": seen}
    return {name: error(x, truth, scale).tolist() for name, x in named.items()}


def kl(agent, walk, metrics=None):                      # part (b)
    """KL between posterior and prior: held-out rows, and over training (step, kl) if `metrics` names a file."""
    world, rssm = agent.world_model, agent.world_model.rssm
    with torch.no_grad():
        each = torch.cat([kl_losses(logits, rssm.prior(deter), rssm.mix, 0.0)[2] for deter, _, logits in walk])
    text = Path(metrics).read_text(encoding="utf-8") if metrics and Path(metrics).exists() else ""
    lines = [line for line in map(json.loads, text.splitlines()) if "kl" in line]   # none before the first update
    # A world model alone has taken all its steps before the first update.
    over = "updates" if len(lines) > 1 and lines[0]["step"] == lines[-1]["step"] else "step"
    return {"free nats": world.free_nats, "held out": each.tolist(), "held out mean": float(each.mean()),
            "over": "environment steps" if over == "step" else over,
            "step": [line[over] for line in lines], "kl": [line["kl"] for line in lines]}


def calibration(agent, episodes, walk, draw):           # part (c)
    """Predicted and observed termination, for rows just seen and for rows H steps ahead, see `bins`."""
    deter, stoch = (torch.cat([w[i] for w in walk]) for i in (0, 1))
    seen = bins(1 - decode(agent, deter, stoch)["continues"], torch.cat([e.is_terminal for e in episodes]))
    rows = windows(episodes, ENDS)
    ahead = 1 - open_loop(agent, rows, CONTEXT, draw)["continues"][0, :, -1]            # (B,)
    return {"seen": seen, "ahead": bins(ahead, rows["is_terminal"][:, -1]),
            "horizon": rows["reward"].shape[1] - CONTEXT}


def bins(predicted, happened):
    """Rows sorted by predicted probability, in bins that halve towards the largest: (N,), (N,) -> dict of lists.

    Terminations are rare: bins of equal width would be empty, of bins of equal count the last would hold them all.
    """
    order = predicted.argsort()
    predicted, happened = predicted[order], happened[order].float()
    sizes, left = [], len(predicted)
    while left > 2 * SMALLEST_BIN:
        sizes.append(left // 2)
        left -= sizes[-1]
    parts = list(zip(predicted.split([*sizes, left]), happened.split([*sizes, left])))
    means = [(float(p.mean()), float(h.mean()), len(p)) for p, h in parts]
    return {**dict(zip(("predicted", "observed", "count"), map(list, zip(*means)))),
            "expected": float(predicted.sum()), "terminations": int(happened.sum())}


@torch.no_grad()
def returns(agent, episodes, walk, draw):               # part (d)
    """Promised and real discounted returns at (at most STARTS) states: value, dreamed, real; correlation and bias.

    `truncated`: the share of rows from episodes that were cut off. The lists are empty where no row is fit for it.
    """
    rows = [real_returns(agent, e, deter, stoch) for e, (deter, stoch, _) in zip(episodes, walk)]
    deter, stoch, real, cut = (torch.cat(x) for x in zip(*rows))
    some = torch.arange(0, len(real), -(-len(real) // STARTS) or 1)
    deter, stoch, real, cut = deter[some], stoch[some], real[some], cut[some]
    value = agent.value(agent.critic(features(deter, stoch)))
    dreamed = dream_returns(agent, deter, stoch, draw) if len(real) else value
    return {"real": real.tolist(), "value": value.tolist(), "dreamed": dreamed.tolist(),
            "correlation": {"value": correlation(value, real), "dreamed": correlation(dreamed, real)},
            "bias": {"value": float((value - real).mean()), "dreamed": float((dreamed - real).mean())},
            "truncated": float(cut.float().mean())}


def real_returns(agent, episode, deter, stoch):
    """Rows of one episode with the discounted return that really followed: deter, stoch, return, cut off?

    Where an episode was truncated the critic's value of its last row stands for the rest; rows where
    that weighs more than CRITICS_SHARE are left out.
    """
    discount, value = agent.config.discount, agent.value(agent.critic(features(deter, stoch)))
    last = torch.arange(len(episode)) == len(episode) - 1
    real = lambda_return(*(x.unsqueeze(1) for x in (episode.reward, episode.is_terminal.float(), last.float(), value)),
                         discount, lam=1.0)[:, 0]                                       # (L,)
    terminated, rest = bool(episode.is_terminal[-1]), torch.arange(len(real), 0, -1)
    good = (discount ** rest <= CRITICS_SHARE) | terminated
    return deter[:-1][good], stoch[:-1][good], real[good], torch.full_like(real, not terminated)[good]


def dream_returns(agent, deter, stoch, draw):
    """Mean lambda-return of SAMPLES dreams from each of N states: (N,)"""
    config, many = agent.config, [x.repeat(SAMPLES, *[1] * (x.dim() - 1)) for x in (deter, stoch)]
    feature, _ = imagine(agent.world_model.rssm, agent.actor, *many, config.imagination_horizon, draw)
    reward, continues, _ = agent.judge(feature)                                         # (H+1, SAMPLES * N)
    value = agent.value(agent.critic(feature))
    dreamed = lambda_return(reward, 1 - continues, torch.zeros_like(reward), value, 1.0, config.lam)
    return dreamed[0].unflatten(0, (SAMPLES, -1)).mean(0)


def correlation(a, b):
    """Pearson's r, or None where one of the two hardly varies."""
    if len(a) < 2 or min(a.std(), b.std()) < 1e-3 * (1 + b.abs().mean()):
        return None
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])

def draw(checkup, figure, title=""):
    """Paint what `examine` returned onto a matplotlib figure, four parts."""
    painters = {"open loop": draw_open_loop, "KL": draw_kl, "termination": draw_termination, "returns": draw_returns}
    for ax, (name, paint) in zip(figure.subplots(2, 2).flat, painters.items()):
        paint(ax, checkup[name])
    figure.suptitle(title)
    figure.tight_layout()


def save(checkup, path, title=""):
    """Write the panel as a picture. Raises OSError."""
    figure = Figure(figsize=(11, 8))
    draw(checkup, figure, title)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def draw_open_loop(ax, part):
    ax.set_title("(a) open-loop error, held-out episodes", loc="left")
    if part is None:
        return ax.text(0.5, 0.5, "no float changes in these episodes", ha="center", transform=ax.transAxes)
    for name, style, color in (("no change", "--", GREY), ("eyes open", ":", BLUE), ("model", "-", BLUE)):
        ax.plot(range(1, len(part[name]) + 1), part[name], style, color=color, label=name)
    ax.set(xlabel="steps ahead", ylabel="error, in standard deviations",
           ylim=(0, 1.25 * max(max(part[name]) for name in ("model", "no change", "eyes open"))))
    ax.legend(frameon=False, loc="upper left", ncol=3)


def draw_kl(ax, part):
    mean = f"held out, mean {part['held out mean']:.2f}"
    ax.set_title(f"(b) KL of posterior and prior {'over training' if part['step'] else 'in held-out rows'}", loc="left")
    if part["step"]:
        ax.plot(part["step"], part["kl"], color=BLUE, label="training")
        ax.axhline(part["held out mean"], color=RED, linewidth=1, label=mean)
        ax.axhline(part["free nats"], color=GREY, linestyle="--", label="free nats")
        ax.set(xlabel=part["over"], ylabel="nats", ylim=(0, None))
    else:
        rows, _, _ = ax.hist(part["held out"], bins=40, color=BLUE, label=mean)
        ax.axvline(part["free nats"], ymax=1 / 1.2, color=GREY, linestyle="--", label="free nats")
        ax.set(xlabel="nats", ylabel="rows", ylim=(0, 1.2 * max(rows)))         # room for the legend, and nothing behind it
    ax.legend(frameon=False, **{} if part["step"] else {"loc": "upper right", "ncol": 2})


def draw_termination(ax, part):
    ax.set_title("(c) is termination as probable as the model says?", loc="left")
    top = 1.15 * max(0.01, *(max(part[name][what]) for name in ("seen", "ahead") for what in ("predicted", "observed")))
    ax.plot([0, top], [0, top], "--", color=GREY, linewidth=1)
    for name, color, label, offset in (("seen", BLUE, "row just seen", 5), ("ahead", RED, f"{part['horizon']} steps ahead", -11)):
        one = part[name]
        ax.plot(one["predicted"], one["observed"], "o-", color=color, alpha=0.8,
                label=f"{label}: {one['expected']:.1f} expected, {one['terminations']} happened")
        for x, y, count in list(zip(one["predicted"], one["observed"], one["count"]))[-3:]:
            ax.annotate(count, (x, y), xytext=(3, offset), textcoords="offset points", fontsize=7, color=color)
    ax.set(xlabel="predicted probability", ylabel="observed frequency")
    ax.set_xscale("symlog", linthresh=1e-3)             # most bins are close to 0
    ax.set_yscale("symlog", linthresh=1e-3)
    ax.set(xlim=(-3e-4, top), ylim=(-6e-4, 25 * top))         # room for the legend
    ax.legend(frameon=False, loc="upper left")


def draw_returns(ax, part):
    ax.set_title("(d) promised and real discounted return", loc="left")
    if not part["real"]:
        return ax.text(0.5, 0.5, "every episode was cut off too early", ha="center", transform=ax.transAxes)
    for name, color, label in (("value", BLUE, "critic"), ("dreamed", RED, "dreams")):
        r, bias = part["correlation"][name], part["bias"][name]
        ax.plot(part["real"], part[name], ".", color=color, alpha=0.35,
                label=f"{label}: r {'-' if r is None else f'{r:.2f}'}, bias {bias:+.1f}")
    ends = [edge(part["real"] + part["value"] + part["dreamed"]) for edge in (min, max)]
    ax.plot(ends, ends, "--", color=GREY, linewidth=1)
    cut = f" ({part['truncated']:.0%} from truncated episodes)" if part["truncated"] else ""
    ax.set(xlabel=f"return that followed{cut}", ylabel="promised")
    ax.legend(frameon=False)

"""Pictures of lesson 1. Every function returns a matplotlib Figure, and saves it if `path` is given.

Plain Figure objects and no pyplot: nothing here chooses a backend, so scripts need no screen, and a
notebook shows what is returned with `display(figure)`.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..distributions import make_bins, symlog, twohot_code

WIDTH, DPI = 9, 100                     # inches and dots per inch: 900 pixels, the width of a README
BLUE, ORANGE, GREEN, GREY = "#2b6cb0", "#dd6b20", "#2f855a", "#a0aec0"
NAMES = {"CartPole-v1": (r"$x$", r"$\dot x$", r"$\theta$", r"$\dot\theta$"),
         "Pendulum-v1": (r"$\cos\,\theta$", r"$\sin\,\theta$", r"$\dot\theta$")}


def clean(axis, **labels):
    """Titles and labels, without the frame's upper and right edge."""
    axis.set(**labels)
    axis.spines[["top", "right"]].set_visible(False)
    return axis


def finish(figure, path):
    """Save if there is a path; its folder is made. Raises OSError."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DPI)
    return figure


# ------------------------------------------------------------------ numbers: symlog and two-hot

def symlog_twohot(path=None, target=30.0):
    """Symlog beside the identity; the two-hot code of `target`, and the mean it stands for; how far apart the bins are."""
    figure = Figure((WIDTH, 3.3), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 1.1, 1))
    draw_symlog(left)
    draw_twohot(middle, target)
    draw_bins(right)
    return finish(figure, path)


def draw_symlog(axis):
    x = torch.linspace(-30, 30, 601)
    axis.plot(x, x, color=GREY, linestyle="--", label="identity")
    axis.plot(x, symlog(x), color=BLUE, linewidth=2, label="symlog")
    axis.annotate("near 0:\nthe identity", (0.2, 0.2), (11, -1.7), fontsize=9, arrowprops={"arrowstyle": "-", "color": GREY})
    axis.text(11, 0.1, "far away:\nten times x\nadds 2.3", fontsize=9)
    axis.text(-30, -1.4, "odd: the\nsign stays", fontsize=9)
    clean(axis, xlabel="x", ylim=(-5, 5))
    axis.set_title("symlog(x) = sign(x) ln(1 + |x|)", fontsize=10)
    axis.legend(frameon=False, loc="lower right", fontsize=9)


def draw_twohot(axis, target):
    bins = make_bins()
    index, weights = twohot_code(torch.tensor(target), bins)
    near = bins[int(index[0]) - 2:int(index[1]) + 3]                    # six neighbouring bins
    axis.vlines(near, -0.03, 0, color=GREY)
    axis.vlines(bins[index], 0, weights, color=BLUE, linewidth=7)
    axis.axvline(target, ymax=0.88, color=ORANGE, linestyle="--", linewidth=1.2)
    (a, b), (v, w) = bins[index].tolist(), weights.tolist()
    axis.text(a, v + 0.03, f"{v:.2f} on\nbin {a:.1f}", ha="right", fontsize=9)
    axis.text(b + 1.0, w - 0.12, f"{w:.2f} on\nbin {b:.1f}", fontsize=9)
    axis.text(0.5, 0.93, f"{v:.2f} · {a:.1f} + {w:.2f} · {b:.1f} = {v * a + w * b:.1f}",
              color=ORANGE, ha="center", fontsize=9, transform=axis.transAxes)
    clean(axis, xlabel="value of the bins (ticks: bins nearby)", ylabel="weight", ylim=(-0.03, 1.15))
    axis.set_title(f"two-hot code of {target:g}", fontsize=10)


def draw_bins(axis):
    """The bins above 0: each against its distance to the one below. Those under 0 are their mirror."""
    bins = make_bins()
    above, apart = bins[len(bins) // 2 + 1:], bins.diff()[len(bins) // 2:]
    axis.loglog(above, apart, color=BLUE, marker=".", markersize=4, linestyle="")
    axis.text(0.04, 0.93, f"{len(above)} bins from {above[0]:.2f} to {above[-1]:.1e},\nas many below 0, and 0", va="top",
              fontsize=9, transform=axis.transAxes)
    clean(axis, xlabel="value of the bin", ylabel="distance to the bin before", ylim=(None, 3e12))
    axis.set_title(f"all {len(bins)} bins", fontsize=10)


# ------------------------------------------------------------------ open loop

def open_loop(env_id, rows, said, errors, context, path=None):
    """Truth and open-loop samples for two held-out segments, and the error of all segments over the horizon.

    rows: see `segments`; said: see `dreamer.visual.openloop.open_loop`; errors: name -> (H,), a line each.
    Nothing is drawn for the `context` rows but the truth: there the model looked.
    """
    names = NAMES.get(env_id) or [f"number {i + 1}" for i in range(said["vector"].shape[-1])]
    lines = len(names) + 2
    figure = Figure((WIDTH, 1.05 * lines + 2.6), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.05 * lines, 2.6])
    axes = upper.subplots(lines, 2, sharex=True, sharey="row")
    chosen = typical(rows, said, context)
    for column, (i, title) in zip(axes.T, chosen):
        draw_segment(column, rows, said, i, context)
        column[0].set_title(title, fontsize=10)
        column[-1].set_xlabel("steps since the last look")
    for axis, name in zip(axes[:, 0], (*names, "reward", "continue")):
        axis.set_ylabel(name)
        middle, width = sum(axis.get_ylim()) / 2, max(np.ptp(axis.get_ylim()), 0.2)      # no view of rounding noise
        axis.set_ylim(middle - width / 2, middle + width / 2)
    axes[-1, 0].set_ylim(-0.15, 1.15)
    upper.align_ylabels(axes[:, 0])
    handles = axes[0, 0].get_legend_handles_labels()
    upper.legend(*handles, loc="outside upper center", ncols=3, frameon=False, title=f"{env_id}: {context} rows "
                 "of looking, then open loop: only the actions are known")
    draw_errors(lower.subplots(), errors)
    return finish(figure, path)


def typical(rows, said, context):
    """Two segments to show, (index, title) each, by their error at the end: the median and the 90th percentile.

    If some segments end an episode, the second is the median of those: there `continue` has something to tell.
    """
    gap = (said["vector"].mean(0) - rows["obs"]["vector"][:, context:])[:, -1]          # (B, V)
    order = (gap / rows["obs"]["vector"].flatten(0, 1).std(0)).pow(2).sum(-1).argsort()
    ends = rows["is_terminal"][order, -1]
    others, final = order[~ends], order[ends]
    median = int(others[len(others) // 2]) if len(others) else int(final[0])
    if len(final):
        return (median, "a typical segment"), (int(final[len(final) // 2]), "one that ends in failure")
    return (median, "a typical segment (median error)"), (int(order[int(0.9 * len(order))]), "a hard one (90th percentile)")


def draw_segment(axes, rows, said, i, context):
    """One column: every number of the observation, then reward and continue, on len(axes) axes."""
    vector, total = rows["obs"]["vector"][i], len(rows["reward"][i])
    time = np.arange(total) - context + 1                               # 0: the last row that was seen
    alive = 1 - rows["is_terminal"][i].float()
    truths = [*vector.T, rows["reward"][i], alive]
    samples = [*said["vector"][:, i].movedim(-1, 0), said["reward"][:, i], said["continues"][:, i]]
    for axis, truth, sample in zip(axes, truths, samples):
        axis.axvspan(time[0] - 0.5, 0.5, color="#edf2f7", label="rows the model saw")
        axis.plot(time, truth, color="black", marker=".", markersize=6, linewidth=1.2, label="truth")
        for number, dream in enumerate(sample):
            axis.plot(time[context:], dream, color=ORANGE, linewidth=0.9, alpha=0.7,
                      label=None if number else f"{len(sample)} open-loop samples")
        clean(axis, xlim=(time[0] - 0.5, time[-1] + 0.5))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def draw_errors(axis, errors):
    styles = {"model": (ORANGE, "-"), "no change": (GREY, "--"), "constant change": (GREY, ":")}
    for name, values in errors.items():
        color, style = styles.get(name, (GREEN, "-"))
        axis.plot(range(1, len(values) + 1), values, color=color, linestyle=style, linewidth=2, label=name)
    clean(axis, title="error over the horizon, all held-out segments (mean of the samples)",
          xlabel="steps since the last look", ylabel="error, in deviations")
    axis.title.set_fontsize(10)
    axis.set_ylim(0, 1.6 * max(errors.get("no change", max(errors.values(), key=max))))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False, fontsize=9)

"""Learning curves from the stored results of many runs (dreamer/training/results.py)."""

import numpy as np
from matplotlib.figure import Figure

DASHES = ((4, 3), (1, 2), (6, 2, 1, 2))     # one pattern for each model-free algorithm


def algorithms(references):
    """Model-free runs by algorithm: dict of name to list of runs."""
    names = dict.fromkeys(r["algorithm"] for r in references)
    return {name: [r for r in references if r["algorithm"] == name] for name in names}


def draw(axis, lesson, task, entries, references):
    """One task: the greedy evaluations of every seed in colour, the means of model-free algorithms in grey."""
    last = max(lesson.defaults.steps if "lesson" in e else e["steps"] for e in entries)     # those that are not whole name their lesson
    for number, e in enumerate(entries):
        if e["curve"]["greedy"]:
            label = f"seed {e['seed']}" + (", fewer steps" if "final" in e else ", stopped") * ("lesson" in e)
            width = max(1, 2.5 - 0.5 * number)          # the first ones broad: equal curves do not hide each other
            axis.plot(*zip(*e["curve"]["greedy"]), marker="o", markersize=width + 2, linewidth=width, label=label)
    for dashes, (name, runs) in zip(DASHES * 9, algorithms(references).items()):
        steps = [step for step, _ in runs[0]["curve"]]
        mean = np.mean([np.interp(steps, *zip(*r["curve"])) for r in runs], 0)
        axis.plot(steps, mean, color="0.5", linewidth=0.9, dashes=dashes, label=f"{name}, mean of {len(runs)} seeds")
    if chance := [score for e in entries for score in e.get("random", ())]:
        axis.axhline(lesson.bar.score(chance), color="tab:brown", linewidth=0.8, linestyle="--", label="chance")
    axis.set(xlim=(0, last * 1.03))
    finish(axis, lesson.bar, f"{task} (lesson {lesson.number})", f"{entries[0]['config']['eval_episodes']} greedy")


def finish(axis, bar, title, episodes):
    """The bar, if there is one, titles, and a legend beside the axes: no curve runs there."""
    if bar:
        axis.axhline(bar.least, color="black", linewidth=0.8, linestyle=":", label=f"bar {bar.least:g}")
    judged = "success" if bar and bar.success is not None else "return, mean"
    axis.set(title=title, xlabel="environment steps", ylabel=f"{judged} of {episodes} episodes")
    axis.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axis.spines[["top", "right"]].set_visible(False)


def own(summary, bar):
    """A figure of the evaluations of one run, greedy and sampled, and its bar, if it has one; None if there are none."""
    if not summary["evaluations"]:
        return None
    figure, score = Figure((6.4, 3.4), layout="constrained"), bar.score if bar else np.mean
    axis = figure.subplots()
    for mode in ("greedy", "sampled"):
        points = [(e["step"], score(e[mode])) for e in summary["evaluations"]]
        axis.plot(*zip(*points), marker="o", markersize=3, linewidth=1.2, label=mode)
    finish(axis, bar, f"{summary['task']}, seed {summary['seed']}", len(summary["evaluations"][0]["greedy"]))
    return figure


def plot(tasks, path, columns=2):
    """One picture of small multiples, one for each of `tasks` (see results.acting)."""
    columns = min(columns, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure((6.4 * columns, 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, task in zip(axes, tasks):
        draw(axis, *task)
    for axis in axes[len(tasks):]:
        axis.axis("off")
    figure.savefig(path, dpi=110)

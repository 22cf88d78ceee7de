"""What each part of the algorithm does in lesson 7: success rates with and without it, from all runs there are."""

import json

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..training import checkpoint, paths
from ..training.bar import share_above_0
from ..training.validate import ConfigError
from .ablations import WITHOUT

PARTS = ("nothing", *WITHOUT)
COLUMNS = 4
VALUES = ("entropy", "entropy_end", "return_floor", "beta_rew", "beta_repval", "late_hold")   # of a recipe; no part changes them
STYLES = {"solid": "-", "dashed": "--", "dotted": ":"}      # of seeds 0, 1, 2, and again


def publish(runs, assets, steps):
    """Keep the success rates of all runs below `runs` in `assets`/07_ablations.json, print a table and draw each task.

    steps: dict of task to the steps of its runs; shorter and longer ones are named and left out, and so are those of
    another recipe than what is stored of their task. What is stored already and has no run any more stays.
    Raises ConfigError if there is nothing to show.
    """
    path = assets / "07_ablations.json"
    before = read(path)
    stored = {key(entry): entry for entry in [*before, *alike(collect(runs, steps), before, path)]}
    entries = sorted(stored.values(), key=key)
    if not entries:
        raise ConfigError(f"--compare finds no finished run of this lesson in {paths.shown(runs)}; train one first")
    assets.mkdir(parents=True, exist_ok=True)
    with checkpoint.replacing(path) as file:
        file.write((json.dumps(entries, indent=1) + "\n").encode())
    for task in dict.fromkeys(entry["task"] for entry in entries):
        of_task = [entry for entry in entries if entry["task"] == task]
        print("\n".join(table(task, of_task)) + "\n")
        draw(task, of_task).savefig(assets / f"07_ablations_{task}.png", dpi=110)
    print(f"files: {paths.shown(path)} and a picture of each task beside it")


def key(entry):
    return entry["task"], PARTS.index(entry["without"]), entry["seed"]


def read(path):
    """The entries of 07_ablations.json, none if there is no such file. Raises ConfigError if it is damaged."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        for entry in entries:
            key(entry), entry["values"]
        return entries
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError):
        raise ConfigError(f"{paths.shown(path)} is damaged; restore it or delete it") from None


def alike(entries, before, path):
    """Those of `entries` with the values of what is stored of their task, whose others would not compare like with like."""
    values = {entry["task"]: entry["values"] for entry in before}
    for found in entries:
        if found["values"] == values.setdefault(found["task"], found["values"]):
            yield found
        else:
            print(f"left out: {found['task']} without {found['without']}, seed {found['seed']}, is of another recipe than what "
                  f"{paths.shown(path)} holds; move that file away to begin anew")


def collect(runs, steps):
    """An entry for every finished run of this lesson below `runs` that has the `steps` of its task."""
    for path in sorted(runs.glob("*/summary.json")):
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
            found = entry(summary) if "without" in summary else None
        except (ValueError, TypeError, KeyError):
            print(f"left out: {paths.shown(path)} is damaged")
            continue
        wanted = steps.get(found["task"].removesuffix("-pixels"), found["steps"]) if found else 0
        if found and not 0 <= found["steps"] - wanted < 16:         # as many environments may stand side by side
            print(f"left out: {paths.shown(path.parent)} has {found['steps']} steps, the lesson's runs {wanted}")
        elif found:
            yield found


def entry(summary):
    """What is kept of a run: rates are shares of episodes with a return above 0."""
    curve = [[e["step"], share_above_0(e["greedy"]), share_above_0(e["sampled"])] for e in summary["evaluations"]]
    final = summary["final"]
    return {"task": summary["task"], "without": summary["without"], "seed": summary["seed"], "steps": summary["steps"],
            "values": {name: summary["config"].get(name) for name in VALUES},
            "seconds": round(summary["seconds"]), "compiled": bool(summary["config"].get("compile")), "curve": curve,
            "chance": share_above_0(summary["random"]),
            "greedy": share_above_0(final["greedy"]), "sampled": share_above_0(final["sampled"]),
            "return": float(np.mean(final["greedy"])), "best_return": float(np.mean(summary["optimal"]))}


# ------------------------------------------------------------------ what is shown

def table(task, entries):
    """Lines of text: a row for each part that was switched off, with the final success of every seed."""
    chance, best = (mean_of_seeds(entries, name) for name in ("chance", "best_return"))
    lines = [f"{task}: success in fresh episodes (chance {chance:.0%}; return of the best play {best:.3f})",
             f"{'without':<16}{'greedy':>8}{'sampled':>9}{'return':>8}   greedy success of every seed"]
    for part in PARTS:
        if found := [e for e in entries if e["without"] == part]:
            means = [np.mean([e[name] for e in found]) for name in ("greedy", "sampled", "return")]
            each = ", ".join(f"{e['greedy']:.0%}" for e in found)
            lines.append(f"{part:<16}{means[0]:>8.0%}{means[1]:>9.0%}{means[2]:>8.3f}   {each}")
    return lines


def mean_of_seeds(entries, name):
    """What depends on the seed alone, counted once for each."""
    return np.mean(list({entry["seed"]: entry[name] for entry in entries}.values()))


def draw(task, entries):
    """A panel for each part: greedy success without it in colour, over everything in broad grey, chance dotted."""
    parts = [part for part in WITHOUT if any(e["without"] == part for e in entries)] or ["nothing"]
    columns = min(COLUMNS, len(parts))
    rows = -(-len(parts) // columns)
    figure = Figure((3.2 * columns + 0.6, 2.5 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis, part in zip(axes.flat, parts):
        lines(axis, [e for e in entries if e["without"] == "nothing"], "everything", "-", color="0.8", linewidth=4)
        if part != "nothing":
            without = [e for e in entries if e["without"] == part]
            axis.set_title(lines(axis, without, f"without {part}", *STYLES.values(), color="C3", linewidth=1.2), fontsize=9)
        axis.axhline(mean_of_seeds(entries, "chance"), color="black", linewidth=0.8, linestyle=":", label="chance")
        axis.set(ylim=(-0.03, 1.03))
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(parts):]:
        axis.axis("off")
    for axis in axes.flat[max(0, len(parts) - columns):len(parts)]:         # nothing below
        axis.tick_params(labelbottom=True)
    shared = [line for line in axes[0, 0].get_lines() if line.get_label().startswith(("everything", "chance"))]
    figure.legend(handles=shared, loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    figure.supxlabel("environment steps", fontsize=9)
    figure.supylabel("success of greedy evaluations", fontsize=9)
    reds = sorted({e["seed"] for e in entries if e["without"] != "nothing"})
    named = ", ".join(f"{seed} {list(STYLES)[seed % len(STYLES)]}" for seed in reds)
    figure.suptitle(f"{task}, every seed" + f" (red: {named})" * bool(reds), fontsize=10, x=0.02, ha="left")
    return figure


def lines(axis, entries, label, *styles, **look):
    """A line for each run, and one label for all of them, which comes back."""
    curves = [(e["seed"], *zip(*e["curve"])) for e in entries if e["curve"]]
    label = f"{label} ({len(curves)} seed{'s' * (len(curves) > 1)})"
    for number, (seed, steps, greedy, _) in enumerate(curves):
        axis.plot(steps, greedy, styles[seed % len(styles)], label=None if number else label, **look)
    return label

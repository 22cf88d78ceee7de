"""What each part of the algorithm does in lesson 7: success rates with and without it, from all runs there are."""

import json
from dataclasses import asdict

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..training import checkpoint, paths
from ..training.bar import share_above_0
from ..training.experiments import measured
from ..training.loop import FREE_TO_CHANGE
from ..training.validate import ConfigError, flag
from .ablations import WITHOUT, configure

PARTS = ("nothing", *WITHOUT)
HELD = 0.95             # success that is called held if no later evaluation is below it
COLUMNS = 4
WIDE, APART = 0.015, 0.024      # what a band is wider than its seeds, and how far lines are moved apart
VALUES = ("entropy", "entropy_end", "return_floor", "beta_rew", "beta_repval", "late_hold")   # of a recipe; no part changes them
FREE = FREE_TO_CHANGE - {"steps"} | {"env", "seed", "checkpoint_every"}     # in these a run may differ from the lesson's
STYLES = {"solid": "-", "dashed": "--", "dotted": ":"}      # of seeds 0, 1, 2, and again


def publish(runs, assets, lessons):
    """Keep the success rates of all runs below `runs` in `assets`/07_ablations.json, print a table and draw each task.

    lessons: dict of task to the Config of its whole runs. What differs from it in more than the part that is missing is
    named and left out, and so is what is of another recipe than what is stored of its task. What is stored already and
    has no run any more stays. Raises ConfigError if there is nothing to show.
    """
    path = assets / "07_ablations.json"
    before = read(path)
    stored = {key(entry): entry for entry in [*before, *alike(collect(runs, lessons), before, path)]}
    order = list(lessons)
    entries = sorted(stored.values(), key=lambda e: (order.index(e["task"]) if e["task"] in order else len(order), key(e)))
    if not entries:
        raise ConfigError(f"--compare finds no finished run of this lesson in {paths.shown(runs)}; train one first")
    assets.mkdir(parents=True, exist_ok=True)
    with checkpoint.replacing(path) as file:
        file.write((json.dumps(entries, indent=1) + "\n").encode())
    for task in dict.fromkeys(entry["task"] for entry in entries):
        of_task = [entry for entry in entries if entry["task"] == task]
        print("\n".join(table(task, of_task)) + "\n")
        if {entry["without"] for entry in of_task} != {"nothing"}:
            draw(task, of_task).savefig(assets / f"07_ablations_{task}.png", dpi=110)
    print(f"files: {paths.shown(path)} and beside it a picture of each task of which a part was switched off")


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
    where = f"what {paths.shown(path)} holds; move that file away to begin anew" if before else "the first run found"
    for found in entries:
        if found["values"] == values.setdefault(found["task"], found["values"]):
            yield found
        else:
            print(f"left out: {found['task']} without {found['without']}, seed {found['seed']}, is of another recipe than {where}")


def collect(runs, lessons):
    """An entry for every finished run of this lesson below `runs`; those that the lesson would not make so are named."""
    found = {}
    for path in sorted(runs.glob("*/summary.json")):
        folder = paths.shown(path.parent)
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
            if "without" not in summary:
                continue
            made, wrong = entry(summary, measured(path.parent)), differences(summary, lessons)
        except (ValueError, TypeError, KeyError):               # a ConfigError is a ValueError
            print(f"left out: {paths.shown(path)} is damaged")
            continue
        if wrong:
            print(f"left out: {folder} has {', '.join(wrong)}")
        elif key(made) in found:
            print(f"left out: {folder} is of the same task, part and seed as {found[key(made)][0]}")
        else:
            found[key(made)] = folder, made
    return [made for _, made in found.values()]


def differences(summary, lessons):
    """What is another in a run than in the lesson's without the same part: texts; none of a task that is not the lesson's."""
    lesson, without = lessons.get(summary["task"].removesuffix("-pixels")), summary["without"]
    if lesson is None:
        return []
    wanted = asdict(lesson if without == "nothing" else configure(lesson, without))
    has = summary["config"]
    return [f"{flag(name)} {has.get(name)}, the lesson's runs {value}" for name, value in wanted.items()
            if name not in FREE and has.get(name) != value]


def entry(summary, metrics=()):
    """What is kept of a run: rates are shares of episodes with a return above 0.

    metrics: lines of its metrics.jsonl, of which the last up to each evaluation is kept: the actor's entropy and S.
    """
    curve = [[e["step"], share_above_0(e["greedy"]), share_above_0(e["sampled"])] for e in summary["evaluations"]]
    final = summary["final"]
    policy = [[line["step"], short(line["entropy"]), short(line["return_scale"])] for line in metrics if "entropy" in line]
    policy = [[row for row in policy if row[0] <= step][-1] for step, *_ in curve if policy and policy[0][0] <= step]
    return {"task": summary["task"], "without": summary["without"], "seed": summary["seed"], "steps": summary["steps"],
            "values": {name: summary["config"].get(name) for name in VALUES},
            "seconds": round(summary["seconds"]), "compiled": bool(summary["config"].get("compile")), "curve": curve,
            "policy": policy, "chance": share_above_0(summary["random"]),
            "greedy": share_above_0(final["greedy"]), "sampled": share_above_0(final["sampled"]),
            "return": float(np.mean(final["greedy"])), "best_return": float(np.mean(summary["optimal"]))}


def short(number):
    return float(f"{number:.3g}")


# ------------------------------------------------------------------ what is shown

def table(task, entries):
    """Lines of text: a row for each part that was switched off, with the final success of every seed."""
    chance, best = (mean_of_seeds(entries, name) for name in ("chance", "best_return"))
    lines = [f"{task}: success in fresh episodes (chance {chance:.0%}; return of the best play {best:.3f})",
             f"{'without':<16}{'greedy':>8}{'sampled':>9}{'return':>8}   {'greedy, every seed':<22}at least {HELD:.0%} from step"]
    for part in PARTS:
        if found := [e for e in entries if e["without"] == part]:
            means = [np.mean([e[name] for e in found]) for name in ("greedy", "sampled", "return")]
            each = ", ".join(f"{e['greedy']:.0%}" for e in found)
            since = " / ".join(f"{step:,}" if (step := held_from(e["curve"])) else "never" for e in found)
            lines.append(f"{part:<16}{means[0]:>8.0%}{means[1]:>9.0%}{means[2]:>8.3f}   {each:<22}{since}")
    return lines


def held_from(curve):
    """The step from which on every greedy evaluation of a curve reaches HELD, None if the last one does not."""
    held = None
    for step, greedy, _ in reversed(curve):
        if greedy < HELD:
            break
        held = step
    return held


def mean_of_seeds(entries, name):
    """What depends on the seed alone, counted once for each."""
    return np.mean(list({entry["seed"]: entry[name] for entry in entries}.values()))


def draw(task, entries):
    """A panel for each part: greedy success without it in red, over the range of the whole agents in grey, chance dotted."""
    entries = [e for e in entries if e["curve"]]
    parts = [part for part in WITHOUT if any(e["without"] == part for e in entries)] or ["nothing"]
    columns = min(COLUMNS, len(parts))
    rows = -(-len(parts) // columns)
    figure = Figure((max(10, 3.2 * columns + 0.6), 2.5 * rows + 0.6), layout="constrained")      # title and legend need 10
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis, part in zip(axes.flat, parts):
        band(axis, [e for e in entries if e["without"] == "nothing"])
        if part != "nothing":
            axis.set_title(lines(axis, [e for e in entries if e["without"] == part], f"without {part}"), fontsize=9)
        axis.axhline(mean_of_seeds(entries, "chance"), color="black", linewidth=0.8, linestyle=":", label="chance")
        axis.set(ylim=(-0.04, 1.04))
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(parts):]:
        axis.axis("off")
    for axis in axes.flat[max(0, len(parts) - columns):len(parts)]:         # nothing below
        axis.tick_params(labelbottom=True)
    shared = [part for part in axes[0, 0].get_legend_handles_labels()[0] if not part.get_label().startswith("without")]
    figure.legend(handles=shared, loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    figure.supxlabel("environment steps", fontsize=9)
    figure.supylabel("success of greedy evaluations", fontsize=9)
    reds = sorted({e["seed"] for e in entries if e["without"] != "nothing"})
    named = ", ".join(f"seed {seed} {list(STYLES)[seed % len(STYLES)]}" for seed in reds)
    figure.suptitle(f"{task}: success without a part" + f" (red: {named})" * bool(reds), fontsize=10, x=0.02, ha="left")
    return figure


def band(axis, entries):
    """From the worst to the best seed of the whole agents."""
    if entries:
        steps = sorted({step for e in entries for step, *_ in e["curve"]})
        greedy = [np.interp(steps, *np.array(e["curve"])[:, :2].T) for e in entries]
        label = f"everything, worst to best of {len(entries)} seed{'s' * (len(entries) > 1)}"
        axis.fill_between(steps, np.min(greedy, 0) - WIDE, np.max(greedy, 0) + WIDE, color="0.82", linewidth=0, label=label)


def lines(axis, entries, label):
    """A red line for each run, a little apart where they are the same, and one label for all of them, which comes back."""
    label = f"{label} ({len(entries)} seed{'s' * (len(entries) > 1)})"
    for number, e in enumerate(entries):
        steps, greedy, _ = zip(*e["curve"])
        apart = APART * (number - (len(entries) - 1) / 2)
        axis.plot(steps, np.add(greedy, apart), list(STYLES.values())[e["seed"] % len(STYLES)], color="C3", linewidth=1.2,
                  label=None if number else label)
    return label

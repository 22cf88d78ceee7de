"""assets/results.json and what is made of it: the README's tables and the learning curves."""

import json
import os
import platform
from pathlib import Path

import numpy as np

from ..visual import curves
from . import checkpoint, experiments

BEGIN, END = "<!-- results: written by train_all.py -->", "<!-- end of results -->"
BUDGETS_BEGIN, BUDGETS_END = "<!-- budgets: written by train_all.py -->", "<!-- end of budgets -->"
REFERENCES = "references"       # key of the model-free runs, written by benchmarks/model_free.py
KEPT = ("seed", "task", "size", "steps", "updates", "errors", "ratio", "final", "versions")      # of summary.json


# ------------------------------------------------------------------ storing

def processor():
    """Name of the processor, as well as Python can tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def entry(summary, command, bar=None, clock=()):
    """What is kept of one finished run (its summary.json).

    bar: least return that counts as solved. clock: (step, seconds) pairs of the run, in order.
    """
    kept = {name: summary[name] for name in KEPT if name in summary}
    kept |= {"seconds": round(summary["seconds"]), "processor": processor(), "cores": os.cpu_count(),
             "command": command}
    if "config" in summary:             # without the folder, which is a path of this machine
        kept["config"] = {name: value for name, value in summary["config"].items() if name != "output"}
    if "evaluations" in summary:
        kept["curve"] = {mode: [[e["step"], float(np.mean(e[mode]))] for e in summary["evaluations"]]
                         for mode in ("greedy", "sampled")}
        step = None if bar is None else steps_to_bar(kept["curve"]["greedy"], bar)
        kept |= {"steps_to_bar": step, "seconds_to_bar": seconds_at(step, clock)}
    return kept


def steps_to_bar(curve, bar):
    """The first evaluation from which on all are at or above the bar: its step, or None if there is none."""
    below = [i for i, (_, score) in enumerate(curve) if score < bar]
    after = curve[below[-1] + 1:] if below else curve
    return after[0][0] if after else None


def seconds_at(step, clock):
    """Seconds at which a run had made `step` steps, between the two nearest times known; None if unknown."""
    if step is None or not clock:
        return None
    return round(float(np.interp(step, *zip(*clock))))


def collect(jobs):
    """Entries of all finished jobs: dict of lesson to list."""
    collected = {}
    for job in jobs:
        if summary := job.summary():
            clock = [(line["step"], line["seconds"]) for line in experiments.measured(job.folder)]
            kept = entry(summary, job.command(), job.lesson.bar.final if job.lesson.acts else None, clock)
            collected.setdefault(job.lesson.name, []).append(kept)
    return collected


def merge(stored, fresh):
    """Stored results, with the fresh entries in place of those of the same task and seed."""
    merged = dict(stored)
    for lesson, entries in fresh.items():
        new = {(e["task"], e["seed"]): e for e in [*stored.get(lesson, []), *entries]}
        merged[lesson] = [new[key] for key in sorted(new)]
    return {name: merged[name] for name in sorted(merged)}


def write(path, collected):
    """Write results.json, atomically. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with checkpoint.replacing(path) as file:
        file.write((json.dumps(collected, indent=1) + "\n").encode())


def read(assets):
    """results.json of a folder, {} if there is none. Ends the program with one sentence if it is damaged."""
    path = Path(assets) / "results.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not all("task" in e and "seed" in e for entries in stored.values() for e in entries):
            raise ValueError("an entry without task or seed")
        return stored
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise SystemExit(f"error: {path} is damaged ({error}); restore it from git, it is not overwritten") from None


# ------------------------------------------------------------------ tables

def acting(stored):
    """(lesson, task, its entries, its references) for every task on which an agent was trained."""
    references = stored.get(REFERENCES, [])
    for name, entries in stored.items():
        for task in dict.fromkeys(e["task"] for e in entries if name != REFERENCES and "curve" in e):
            yield (experiments.load(name), task, [e for e in entries if e["task"] == task],
                   [r for r in references if r["task"] == task])


def held(curve, steps):
    """Mean of the last evaluations, from five eighths of the run on (5k to 8k of 8k steps); None without any."""
    late = [score for step, score in curve if step >= steps * 5 / 8]
    return float(np.mean(late)) if late else None


def cells(*values):
    return "| " + " | ".join(map(str, values)) + " |"


def heading(*names):
    return [cells(*names), "|" + "---|" * len(names)]


def table(stored):
    """The README's results: one row for each seed, then one for each model-free algorithm; world models apart."""
    lines = heading("task", "seed", "steps", "final greedy, mean (worst)", "final sampled",
                    "mean of evaluations in the last 3/8", "steps to the bar", "minutes, 1 thread")
    for lesson, task, entries, references in acting(stored):
        lines += [row(e, lesson.bar.final) for e in entries]
        for name, runs in curves.algorithms(references).items():
            lines.append(reference_row(task, name, runs, lesson.bar.final))
    return "\n".join(lines + world_models(stored))


def row(e, bar):
    greedy, curve = e["final"]["greedy"], e["curve"]["greedy"]
    late, reached = held(curve, e["steps"]), steps_to_bar(curve, bar)
    return cells(e["task"], e["seed"], f"{e['steps']:,}", f"{np.mean(greedy):.1f} ({min(greedy):.0f})",
                 f"{np.mean(e['final']['sampled']):.1f}", "-" if late is None else f"{late:.1f}",
                 "never" if reached is None else f"{reached:,}", f"{e['seconds'] / 60:.1f}")


def reference_row(task, algorithm, runs, bar):
    """Mean over the seeds of a model-free algorithm [least to greatest]."""
    reached = [steps_to_bar(r["curve"], bar) for r in runs]
    late = [held(r["curve"], r["steps"]) for r in runs]
    some = f"{len(runs) - reached.count(None)} of {len(runs)} seeds"
    steps, minutes = (np.mean([r[name] for r in runs]) for name in ("steps", "seconds"))
    return cells(f"{task}, {algorithm}", f"{len(runs)} seeds", f"{steps:,.0f}",
                 spread([np.mean(r["final"]["greedy"]) for r in runs]), "-", "-" if None in late else spread(late),
                 some if None in reached else spread(reached, ",.0f"), f"{minutes / 60:.1f}")


def spread(values, form=",.1f"):
    return f"{np.mean(values):{form}} [{min(values):{form}} to {max(values):{form}}]"


def world_models(stored):
    """Rows of the lessons that train a world model alone."""
    entries = [e for found in stored.values() for e in found if "errors" in e]
    if not entries:
        return []
    ahead = len(entries[0]["errors"]["model"])
    lines = ["", *heading("world model of", "seed", "random steps", f"error {ahead} steps ahead", "of \"no change\"",
                          "of \"constant change\"", "model / better of the two", "minutes, 1 thread")]
    for e in entries:
        errors = [f"{e['errors'][guess][-1]:.3f}" for guess in ("model", "no change", "constant change")]
        lines.append(cells(e["task"], e["seed"], f"{e['steps']:,}", *errors, f"{e['ratio']:.2f}",
                           f"{e['seconds'] / 60:.1f}"))
    return lines


def budgets():
    """The README's table of what differs between lessons, from the DEFAULTS and bars of their scripts."""
    lines = heading("lesson", "task", "size", "environments", "steps", "model updates", "evaluation episodes", "bar")
    for lesson in map(experiments.load, experiments.SEEDS):
        c = lesson.defaults
        counts = (f"{c.eval_episodes} every {c.eval_every:,} steps, {c.final_episodes} at the end" if lesson.acts
                  else f"{lesson.held_out} held out")
        for task in lesson.tasks:
            lines.append(cells(lesson.number, task, c.size, c.envs, f"{c.steps:,}", f"{lesson.updates(c):,}",
                               counts, in_words(lesson)))
    return "\n".join(lines)


def in_words(lesson):
    """The bar of a lesson."""
    if not lesson.acts:
        return f"error at most {lesson.bar:.2f} of the better guess"
    words = f"final greedy mean at least {lesson.bar.final:g}"
    if lesson.bar.window is None:
        return words
    at = ", ".join(f"{step:,}" for step in lesson.bar.at)
    return f"{words}; mean of the evaluations at {at} at least {lesson.bar.window:g}"


# ------------------------------------------------------------------ README and pictures

def publish(assets):
    """Make pictures and the README's tables from `assets`/results.json; README.md lies beside that folder."""
    assets, stored = Path(assets), read(assets)
    tasks = list(acting(stored))
    if tasks:
        curves.plot(tasks, assets / "learning_curves.png")
    for lesson in dict.fromkeys(lesson for lesson, *_ in tasks):
        curves.plot([task for task in tasks if task[0] == lesson], assets / f"{lesson.number}_learning_curve.png")
    readme = assets.parent / "README.md"
    if readme.exists():
        text = readme.read_text(encoding="utf-8")
        new = fill(text, BEGIN, END, lambda: table(stored))
        new = fill(new, BUDGETS_BEGIN, BUDGETS_END, budgets)
        if new != text:
            with checkpoint.replacing(readme) as file:
                file.write(new.encode())


def fill(text, begin, end, make):
    """`text` with what make() says between two markers, if it has both."""
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    return f"{before}{begin}\n{make()}\n{end}{after}" if found and ended else text

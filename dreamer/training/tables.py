"""The README's tables, as Markdown, from the stored results and the lessons' own DEFAULTS and bars."""

from collections import Counter

import numpy as np

from ..visual import curves
from . import experiments

LOOKING = "04_visualize"        # the one lesson that trains nothing


def steps_to_bar(curve, bar):
    """The first evaluation from which on all are at or above the bar: its step, or None if there is none."""
    below = [i for i, (_, score) in enumerate(curve) if score < bar]
    after = curve[below[-1] + 1:] if below else curve
    return after[0][0] if after else None


def held(curve, steps):
    """Mean of the last evaluations, from five eighths of the run on (5k to 8k of 8k steps); None without any."""
    late = [score for step, score in curve if step >= steps * 5 / 8]
    return float(np.mean(late)) if late else None


def cells(*values):
    return "| " + " | ".join(map(str, values)) + " |"


def heading(*names):
    return [cells(*names), "|" + "---|" * len(names)]


def results(tasks, stored):
    """The README's results: a row for each seed, then one for each model-free algorithm; other kinds of task apart."""
    lines = heading("task", "seed", "steps", "final greedy, mean (worst)", "final sampled",
                    "mean of evaluations in the last 3/8", "steps to the bar", "minutes, 1 thread")
    for lesson, task, entries, references in tasks:
        if lesson.bar.success is not None:
            continue
        lines += [row(e, lesson.bar.final) for e in entries]
        for name, runs in curves.algorithms(references).items():
            lines.append(reference_row(task, name, runs, lesson.bar.final))
    return "\n".join(lines + successes(tasks) + world_models(stored))


def row(e, bar):
    greedy, curve = e["final"]["greedy"], e["curve"]["greedy"]
    late, reached = held(curve, e["steps"]), steps_to_bar(curve, bar)
    return cells(e["task"], e["seed"], f"{e['steps']:,}", f"{np.mean(greedy):.1f} ({min(greedy):.0f})",
                 f"{np.mean(e['final']['sampled']):.1f}", "-" if late is None else f"{late:.1f}",
                 "never" if reached is None else f"{reached:,}", minutes_of(e))


def minutes_of(e):
    """Of a run, and what made it faster."""
    return f"{e['seconds'] / 60:.1f}" + how_fast([e])


def threads_of(e):
    """["2 threads"] of a run that ended with two; [] with one."""
    count = e.get("config", {}).get("threads", 1)
    return [f"{count} threads"] * (count > 1)


def how_fast(entries):
    """What made these runs faster than the plain command is: --compile, more threads, a GPU, and how many if not all; empty, if nothing did."""
    faster = Counter(way for e in entries for way in ["compiled"] * ("--compile" in e.get("command", "")) + threads_of(e) + [e.get("gpu")] if way)
    ways = [(f"{count} of {len(entries)} " if count < len(entries) else "") + way for way, count in faster.items()]
    return f" ({', '.join(ways)})" * bool(ways)


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
    """Mean [least to greatest], or the mean alone where all are written alike."""
    least, mean, most = (f"{value:{form}}" for value in (min(values), np.mean(values), max(values)))
    return mean if least == most else f"{mean} [{least} to {most}]"


def successes(tasks):
    """Rows of the tasks that are judged by success, with what chance and the best play get."""
    lines = ["", *heading("success in", "seed", "steps", "final greedy", "final sampled", "success of random actions",
                          "mean return, greedy", "sampled", "return of the best play", "steps to the bar", "minutes, 1 thread")]
    for lesson, task, entries, _ in tasks:
        for e in entries if lesson.bar.success is not None else ():
            greedy, sampled = e["final"]["greedy"], e["final"]["sampled"]
            reached = steps_to_bar(e["curve"]["greedy"], lesson.bar.success)
            chance, best = e.get("random"), e.get("optimal")            # a kill may have come before they were written
            rates = ["-" if x is None else f"{lesson.bar.score(x):.0%}" for x in (greedy, sampled, chance)]
            lines.append(cells(task, e["seed"], f"{e['steps']:,}", *rates, f"{np.mean(greedy):.3f}", f"{np.mean(sampled):.3f}",
                               "-" if best is None else f"{np.mean(best):.3f}",
                               "never" if reached is None else f"{reached:,}", minutes_of(e)))
    return lines if len(lines) > 3 else []


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
                           minutes_of(e)))
    return lines


def budgets():
    """The README's table of what differs between lessons, from the DEFAULTS and bars of their scripts."""
    lines = heading("lesson", "task", "size", "environments", "steps", "train ratio", "model updates", "evaluation episodes", "bar")
    for whole in map(experiments.load, experiments.SEEDS):
        for task in whole.tasks:
            lesson = whole.of(task)
            c = lesson.defaults
            counts = (f"{c.eval_episodes} every {c.eval_every:,} steps, {c.final_episodes} at the end" if lesson.acts
                      else f"those of 20 rows and more of {lesson.held_out} held out")
            lines.append(cells(lesson.number, task, c.size, c.envs, f"{c.steps:,}", f"{c.train_ratio:g}",
                               f"{lesson.updates(c):,}", counts, in_words(lesson)))
    return "\n".join(lines)


def in_words(lesson):
    """The bar of a lesson."""
    if not lesson.acts:
        return f"error at most {lesson.bar:.2f} of the better guess"
    if lesson.bar.success is not None:
        return f"success in at least {lesson.bar.success:.0%} of the final episodes, greedy and sampled alike"
    words = f"final greedy mean at least {lesson.bar.final:g}"
    if lesson.bar.window is None:
        return words
    at = ", ".join(f"{step:,}" for step in lesson.bar.at)
    return f"{words}; mean of the evaluations at {at} at least {lesson.bar.window:g}"


def lessons(tasks, stored, stopped=()):
    """The README's lessons: script, notebook, task, minutes, bar, what was reached.

    tasks: results.acting(stored); stopped: results.stopped(stored).
    """
    lines = heading("lesson", "notebook", "task", "steps", "minutes, 1 thread", "bar", "reached", "plot")
    reached, far = ({(lesson.name, task): entries for lesson, task, entries, _ in kind} for kind in (tasks, stopped))
    for name in sorted([*experiments.SEEDS, LOOKING]):
        book = f"[{name[:2]}](notebooks/{name}.ipynb)"
        if name == LOOKING:
            lines.append(cells(f"`{name}.py`", book, "those of 02, 03, 05, 06", "-", "1", "held-out episodes only", "-", "below"))
            continue
        whole = experiments.load(name)
        for task in whole.tasks:
            lesson = whole.of(task)
            done = reached.get((name, task)) or [e for e in stored.get(name, []) if e["task"] == task and "errors" in e]
            minutes = spread([e["seconds"] / 60 for e in done], ".0f") + how_fast(done) if done else "-"
            begun = far.get((name, task), [])
            lines.append(cells(f"`{name}.py`", book, task, f"{lesson.defaults.steps:,}", minutes, in_words(lesson),
                               outcome(lesson, done) if done else how_far(lesson, begun),
                               picture(lesson, task) if done or begun else "-"))
    return "\n".join(lines)


def how_far(lesson, begun):
    """Of runs that were stopped: where, and the last greedy evaluation; of those with fewer steps, what they ended at."""
    runs = []
    for e in begun:
        scores = [("at the end", lesson.bar.score(e["final"]["greedy"]))] if "final" in e else [
            (f"at {step:,}", score) for step, score in e["curve"]["greedy"][-1:]]
        runs.append(f"seed {e['seed']} {'planned with' if 'final' in e else 'stopped after'} {e['steps']:,} steps, "
                    f"{e['seconds'] / 60:.0f} minutes" + f" on one {e.get('gpu')}" * ("gpu" in e)
                    + "".join(f" ({written(lesson, score)} {when})" for when, score in scores))
    return "not run to the end: " + "; ".join(runs) if runs else "not run yet"


def written(lesson, score):
    """A mean return, or a success rate."""
    return f"{score:{'.1f' if lesson.bar.success is None else '.0%'}}"


def outcome(lesson, entries):
    """How many seeds met the whole bar, the worst final score (see Bar.weakest) and what random actions get, where that is known;
    and how many seeds are still to be run, if any."""
    scores = [lesson.bar.weakest(e["final"]) if lesson.acts else e["ratio"] for e in entries]
    worst = written(lesson, min(scores)) if lesson.acts else f"{max(scores):.2f}"
    met = sum(meets(lesson, e) for e in entries)
    planned = experiments.SEEDS[lesson.name]
    missing = f" ({planned - len(entries)} not run yet)" if len(entries) < planned else ""
    chance = [lesson.bar.score(e["random"]) for e in entries if e.get("random")]
    return f"{met} of {len(entries)} seeds{missing}, worst {worst}" + (f"; chance {spread(chance, '.0%')}" if chance else "")


def meets(lesson, e):
    """Did this run meet every part of its lesson's bar?"""
    if not lesson.acts:
        return e["ratio"] <= lesson.bar
    bar, scores = lesson.bar, dict(e["curve"]["greedy"])
    if bar.success is not None:
        return bar.weakest(e["final"]) >= bar.success
    window = [scores[step] for step in bar.at if step in scores]
    held = bar.window is None or (len(window) == len(bar.at) and np.mean(window) >= bar.window)
    return bool(np.mean(e["final"]["greedy"]) >= bar.final and held)


def picture(lesson, task):
    return (f"[curve](assets/{lesson.number}_learning_curve.png)" if lesson.acts
            else f"[open loop](assets/{lesson.number}_open_loop_{task}.png)")

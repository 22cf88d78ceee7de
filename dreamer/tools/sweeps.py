"""Sweeps: every combination of some settings, with some seeds each; a table and a picture of what came of it."""

import csv
import io
import itertools
import re
from dataclasses import fields

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ..config import Config
from ..training import checkpoint, experiments
from ..training.flags import check_text
from ..training.paths import run_folder
from ..training.validate import ConfigError, flag, suggestion

REFUSED = {     # what a sweep cannot vary, and what to do instead
    "seed": "--seeds 3 runs seeds 0, 1 and 2 of every combination",
    "env": "name the lessons whose tasks to run",
    "output": "every run has a folder of its own; --name names the folder of all",
    "resume": "runs that are finished are skipped, others go on; delete the folder of a run to repeat it"}
SWITCH = {"true": True, "false": False}


# ------------------------------------------------------------------ the grid

def read_grid(texts):
    """["lr=1e-4,3e-4", "stoch=16"] -> {"lr": [0.0001, 0.0003], "stoch": [16]}. Raises ConfigError."""
    kinds, grid = {field.name: field.type for field in fields(Config)}, {}
    for text in texts:
        name, _, values = text.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if name not in kinds:
            raise ConfigError(f"--set {text}: there is no hyperparameter {name}{suggestion(name, kinds)}")
        if name in REFUSED:
            raise ConfigError(f"--set {text}: a sweep does not vary {name}; {REFUSED[name]}")
        if name in grid:
            raise ConfigError(f"--set {text}: {name} is set twice; write all its values in one --set {name}=A,B")
        grid[name] = [read_value(text, name, word.strip(), kinds[name]) for word in values.split(",")]
        if len(set(grid[name])) < len(grid[name]):
            raise ConfigError(f"--set {text}: a value is there twice")
    return grid


def read_value(text, name, word, kind):
    """A value of the field `name`. `text`: the whole --set, for the message."""
    if not word:
        raise ConfigError(f"--set {text}: a value is missing; write {name}=A or {name}=A,B,C")
    if kind is bool:
        if word.lower() not in SWITCH:
            raise ConfigError(f"--set {text}: {name} must be true or false, not {word}")
        return SWITCH[word.lower()]
    try:
        check_text(name, word, kind)
    except ConfigError as error:
        raise ConfigError(f"--set {text}: {error}") from None
    return kind(word) if kind in (int, float) else word


def flags(point):
    """The command line of one combination, a dict of field name to value."""
    return [f"{flag(name)}={value}" if not isinstance(value, bool) else flag(name if value else f"no_{name}")
            for name, value in point.items()]


def in_words(point):
    return " ".join(f"{name}={value}" for name, value in point.items())


def named(name, lessons, grid):
    """The name of a sweep's folder: `name`, or 02-03-entropy-lr, all-lr (no lesson named), 02-seeds. ConfigError."""
    if name and not re.fullmatch(r"\w[\w.+=,-]*", name):
        raise ConfigError(f"--name {name} must be the name of a folder: letters, digits and . _ + = , - alone")
    return name or "-".join([*([lesson[:2] for lesson in lessons] or ["all"]), *(sorted(grid) or ["seeds"])])


# ------------------------------------------------------------------ the runs

def plan(names, folder, grid, seeds, toy=False):
    """Every combination of the grid with every seed: list of experiments.Job, and what cannot be read, as there.

    Raises ConfigError if one of the runs is impossible.
    """
    jobs, unreadable = [], {}
    points = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    for name in names:
        try:
            lesson = experiments.load(name)
        except experiments.LessonError as error:
            unreadable[name] = str(error)
            continue
        jobs += [run(lesson.of(task), task, point, seed, folder, toy)
                 for task, point, seed in itertools.product(lesson.tasks, points, range(seeds))]
    return jobs, unreadable


def run(lesson, task, point, seed, folder, toy):
    """One Job, done if it is finished. Raises ConfigError."""
    words = in_words(point)
    place = folder.absolute() / f"{lesson.number}-{run_folder('-'.join([task, *words.split()]), seed).name}"
    name = f"{lesson.number} {words}" if point else lesson.name
    try:
        job = experiments.Job(lesson, task, seed, place, [*(experiments.TOY if toy else []), *flags(point)], name)
    except ConfigError as error:
        raise ConfigError(f"{lesson.name} with {words}: {error}" if point else str(error)) from None
    job.state = "done" if job.summary() else "waiting"
    return job


# ------------------------------------------------------------------ what came of it

def scores(job):
    """Of a finished run: final greedy and sampled score (bar.Bar), or error relative to the better guess and None."""
    summary = job.summary()
    if summary is None:
        return None, None
    if not job.lesson.acts:
        return summary["ratio"], None
    return tuple(job.lesson.bar.score(summary["final"][mode]) for mode in ("greedy", "sampled"))


def groups(jobs, grid):
    """{(lesson, task): {values of the settings: jobs of all seeds}}, in the order of the grid."""
    found = {}
    for job in jobs:
        point = tuple(getattr(job.config, name) for name in grid)
        found.setdefault((job.lesson, job.task), {}).setdefault(point, []).append(job)
    return found


def what(lesson):
    """The score of a lesson in words, and its number format."""
    if not lesson.acts:
        return "error of the world model / better guess (less is better)", ".2f"
    return ("mean return", ".1f") if lesson.bar.success is None else ("success", ".2f")


def table(jobs, grid):
    """The scores as text: for each task, a line for each combination with its mean and every seed."""
    lines = []
    for (lesson, task), points in groups(jobs, grid).items():
        words, form = what(lesson)
        rows = [[*grid, "mean", *(f"seed {job.seed}" for job in next(iter(points.values())))]]
        for point, of_point in points.items():
            found = [scores(job)[0] for job in of_point]
            done = [score for score in found if score is not None]
            rows.append([*map(str, point), f"{np.mean(done):{form}}" if done else "-",
                         *(job.state if score is None else f"{score:{form}}" for job, score in zip(of_point, found))])
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines += [f"{task} ({lesson.name}): {words}{', greedy episodes at the end' if lesson.acts else ''}",
                  *("  ".join(map(str.rjust, row, widths)) for row in rows), ""]
    return "\n".join(lines)


def write_csv(path, jobs, grid):
    """One line for each run. Raises OSError."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["lesson", "task", *grid, "seed", "state", "score", "score_sampled", "steps", "updates", "seconds"])
    for job in jobs:
        summary = job.summary() or {}
        out.writerow([job.lesson.name, job.task, *(getattr(job.config, name) for name in grid), job.seed, job.state,
                      *scores(job), *(summary.get(name) for name in ("steps", "updates", "seconds"))])
    with checkpoint.replacing(path) as file:
        file.write(text.getvalue().encode())


def write(folder, jobs, grid):
    """Write table.txt, results.csv and, if a run is finished, results.png into `folder`. Returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    text = table(jobs, grid)
    with checkpoint.replacing(folder / "table.txt") as file:
        file.write(text.encode())
    write_csv(folder / "results.csv", jobs, grid)
    if any(job.summary() for job in jobs):
        with checkpoint.replacing(folder / "results.png") as file:
            picture(jobs, grid).savefig(file, format="png", dpi=110)
    return text


# ------------------------------------------------------------------ the picture

def picture(jobs, grid):
    """For each task: left the score of every seed and the means, right the learning curves. Returns a Figure."""
    found = groups(jobs, grid)
    figure = Figure((11, 3.8 * len(found)), layout="constrained")
    for axes, ((lesson, task), points) in zip(figure.subplots(len(found), 2, squeeze=False), found.items()):
        colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(points)))
        for place, (color, (point, of_point)) in enumerate(zip(colors, points.items())):
            done = [job for job in of_point if job.summary()]
            draw_scores(axes[0], place, [scores(job)[0] for job in done], color)
            draw_curves(axes[1], [curve(job) for job in done], color, in_words(dict(zip(grid, point))) or "all seeds")
        finish(axes, lesson, task, points, grid)
    return figure


def draw_scores(axis, place, values, color):
    axis.plot([place] * len(values), values, "o", color=color, markersize=5, alpha=0.7)
    if values:
        axis.hlines(np.mean(values), place - 0.3, place + 0.3, color=color, linewidth=2)


def curve(job):
    """(x, y): greedy evaluations over steps; without behaviour the reconstruction loss over updates."""
    if job.lesson.acts:
        return [(e["step"], job.lesson.bar.score(e["greedy"])) for e in job.summary()["evaluations"]]
    return [(line["updates"], line["loss_rec"]) for line in experiments.measured(job.folder) if "loss_rec" in line]


def draw_curves(axis, curves, color, label):
    """Every seed thin, their mean thick."""
    curves = [list(zip(*points)) for points in curves if points]
    for x, y in curves:
        axis.plot(x, y, color=color, linewidth=0.7, alpha=0.4)
    if curves:
        x = curves[0][0]
        axis.plot(x, np.mean([np.interp(x, *c) for c in curves], 0), color=color, linewidth=1.8, label=label)


def finish(axes, lesson, task, points, grid):
    """Titles, labels and the lesson's bar."""
    words, bar = what(lesson)[0].partition(" (")[0], lesson.bar.least if lesson.acts else lesson.bar
    ticks = ["\n".join(f"{name}={value}" for name, value in zip(grid, point)) or "all seeds" for point in points]
    axes[0].set(title=f"{task} (lesson {lesson.number})", xticks=range(len(points)), xlim=(-0.6, len(points) - 0.4),
                ylabel=f"{words}{' at the end' if lesson.acts else ''}, each seed")
    axes[0].set_xticklabels(ticks, fontsize=7, rotation=0 if len(points) < 6 else 90)
    axes[0].axhline(bar, color="black", linewidth=0.8, linestyle=":", label=f"bar {bar:.3g}")
    axes[1].set(xlabel="environment steps" if lesson.acts else "updates",
                ylabel=f"{words}, greedy evaluations" if lesson.acts else "reconstruction loss",
                title="seeds thin, mean thick")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        if axis.get_legend_handles_labels()[1]:
            axis.legend(fontsize=7, frameon=False)

"""assets/results.json: what is kept of every run, and the README and pictures that are made of it."""

import json
from pathlib import Path

import numpy as np

from ..visual import curves
from . import checkpoint, experiments, tables
from .records import hardware

REFERENCES = "references"       # key of the model-free runs, written by benchmarks/model_free.py
UNFINISHED = "unfinished"       # key of the runs that were stopped, as far as they are, or planned with fewer steps
KEPT = ("seed", "task", "size", "steps", "updates", "errors", "ratio", "final", "random", "optimal",
        "versions")             # of summary.json

ALWAYS = {"task", "seed", "steps", "seconds"}
NEEDED = {"": ALWAYS | {"curve", "final", "config"}, "errors": ALWAYS | {"ratio"}, REFERENCES: ALWAYS | {"algorithm", "lesson", "curve", "final"},
          UNFINISHED: ALWAYS | {"lesson", "curve", "config"}}       # what an entry of each kind cannot be without


# ------------------------------------------------------------------ storing

def entry(summary, command, bar=None, clock=(), score=np.mean):
    """What is kept of one finished run (its summary.json).

    bar: least score that counts as solved. clock: (step, seconds) pairs of the run, in order. score: what is
    judged of the returns of an evaluation, as in `bar.Bar`.
    """
    kept = {name: summary[name] for name in KEPT if name in summary}
    kept |= {"seconds": round(summary["seconds"]), **(summary.get("hardware") or hardware()), "command": command}
    if "config" in summary:             # without the folder, which is a path of this machine
        kept["config"] = {name: value for name, value in summary["config"].items() if name != "output"}
    if "evaluations" in summary:
        kept["curve"] = {mode: [[e["step"], float(score(e[mode]))] for e in summary["evaluations"]]
                         for mode in ("greedy", "sampled")}
        step = None if bar is None else tables.steps_to_bar(kept["curve"]["greedy"], bar)
        kept |= {"steps_to_bar": step, "seconds_to_bar": seconds_at(step, clock)}
    return kept


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
            judged = {"bar": job.lesson.bar.least, "score": job.lesson.bar.score} if job.lesson.acts else {}
            kept = entry(summary, job.command(summary), clock=clock, **judged)
            collected.setdefault(job.lesson.name, []).append(kept)
    return collected


def begun(job):
    """A list with the entry of a run that is not the whole one; empty if there is nothing of it.

    Either it was planned with fewer steps and is finished, or it is not, and its last checkpoint tells: `steps` is how
    many were made, the run's whole number stands in its config. Raises CheckpointError.
    """
    file, free = job.folder / "checkpoint.pt", experiments.WITHOUT_EFFECT | {"eval_every", "eval_episodes"}
    if not job.lesson.acts or job.summary():
        return []
    shorter = job.summary(free | {"steps"})
    if shorter and shorter["steps"] < job.config.steps:
        return [{"lesson": job.lesson.name, **entry(shorter, job.command(shorter), score=job.lesson.bar.score)}]
    if not checkpoint.exists(file):
        return []
    file = file if file.exists() else checkpoint.previous(file)
    saved = checkpoint.load(file)
    try:
        if not job.same(saved["config"], free):
            return []
        summary = {"task": job.task, "seed": job.seed, "size": saved["config"]["size"], "steps": saved["saved_at"],
                   "updates": saved["updates"], "seconds": saved["records"]["seconds"], "config": saved["config"],
                   "evaluations": saved["evaluations"], "hardware": saved.get("hardware")}
    except (KeyError, TypeError, AttributeError) as error:
        raise checkpoint.CheckpointError(f"{file} was written by another version of the course ({type(error).__name__})") from None
    return [{"lesson": job.lesson.name, **entry(summary, job.command(summary), score=job.lesson.bar.score)}]


def merge(stored, fresh):
    """Stored results, with the fresh entries in place of those of the same task and seed.

    Of a lesson's task with a finished run nothing is kept as unfinished.
    """
    merged = dict(stored)
    for lesson, entries in fresh.items():
        new = {(e["task"], e["seed"]): e for e in [*stored.get(lesson, []), *entries]}
        merged[lesson] = [new[key] for key in sorted(new)]
    finished = {(name, e["task"]) for name in merged.keys() - {REFERENCES, UNFINISHED} for e in merged[name]}
    merged[UNFINISHED] = [e for e in merged.get(UNFINISHED, []) if (e["lesson"], e["task"]) not in finished]
    return {name: merged[name] for name in sorted(merged) if merged[name] or name != UNFINISHED}


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
        for name, entries in stored.items():
            for e in entries:
                if missing := NEEDED[name if name in NEEDED else "errors" if "errors" in e else ""] - set(e):
                    raise ValueError(f"an entry of {name} without {min(missing)}")
        return stored
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise SystemExit(f"error: {path} is damaged ({error}); restore it from git, it is not overwritten") from None


# ------------------------------------------------------------------ README and pictures

def acting(stored):
    """(lesson, task, its entries, its references) for every task on which an agent was trained."""
    references = stored.get(REFERENCES, [])
    for name in sorted(stored.keys() - {REFERENCES, UNFINISHED}):
        lesson, trained = experiments.load(name), [e for e in stored[name] if "curve" in e]
        for task in lesson.tasks:
            if entries := [e for e in trained if e["task"] == task]:
                yield lesson.of(task), task, entries, [r for r in references if r["task"] == task]


def stopped(stored):
    """The same for every task of which no run is whole and some are begun, or shorter."""
    entries = stored.get(UNFINISHED, [])
    for name, task in dict.fromkeys((e["lesson"], e["task"]) for e in entries):
        yield experiments.load(name).of(task), task, [e for e in entries if e["task"] == task], []


def blocks(stored):
    """The generated blocks of the README: dict of name to text."""
    tasks = list(acting(stored))
    return {"lessons": tables.lessons(tasks, stored, stopped(stored)), "budgets": tables.budgets(),
            "results": tables.results(tasks, stored)}


def publish(assets):
    """Make pictures and the README's tables from `assets`/results.json; README.md lies beside that folder."""
    assets, stored = Path(assets), read(assets)
    tasks = sorted([*acting(stored), *stopped(stored)], key=lambda task: task[0].name)
    if tasks:
        curves.plot(tasks, assets / "learning_curves.png")
    for number in dict.fromkeys(lesson.number for lesson, *_ in tasks):
        curves.plot([task for task in tasks if task[0].number == number], assets / f"{number}_learning_curve.png")
    readme = assets.parent / "README.md"
    if readme.exists():
        text = readme.read_text(encoding="utf-8")
        new = text
        for name, block in blocks(stored).items():
            new = fill(new, name, block)
        if new != text:
            with checkpoint.replacing(readme) as file:
                file.write(new.encode())


def markers(name):
    """What stands before and after a generated block of the README."""
    return f"<!-- {name}: written by train_all.py -->", f"<!-- end of {name} -->"


def fill(text, name, block):
    """`text` with `block` between the markers of `name`, if it has both."""
    begin, end = markers(name)
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    return f"{before}{begin}\n{block}\n{end}{after}" if found and ended else text

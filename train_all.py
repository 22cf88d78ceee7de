"""Run every experiment of the README, collect them in assets/results.json, write the tables, draw the curves.

    python train_all.py               # runs what is missing: many hours of one core
    python train_all.py 02 03         # only these lessons
    python train_all.py --collect     # runs nothing: stores what is finished
    python train_all.py --plots       # tables and pictures again, from the stored results alone
    python train_all.py --quick       # everything in toy size, into runs/quick: does it work here?

Each run is its lesson's own script, in a process of its own with one thread, in the folder that the script
itself would choose. Finished runs are skipped, killed ones go on from their checkpoints, results of
experiments that were not run are kept. A run that fails does not stop the others; then the exit code is 1.
"""

import argparse
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np

from dreamer.training import experiments, results

ROOT = Path(__file__).resolve().parent
STATES = ("running", "waiting", "done", "failed", "stopped")
EVERY = 600         # seconds between two overviews where there is no terminal


# ------------------------------------------------------------------ the live table

def overview(jobs, lines, side_by_side, began):
    """One line: how many runs are in which state, and the time."""
    counts = [f"{n} {state}" for state in STATES if (n := sum(job.state == state for job in jobs))]
    left = experiments.time_left(jobs, lines, side_by_side)[1]
    ahead = "" if left == 0 else f", {duration(left)} left"
    return f"{', '.join(counts) or 'no runs'}; {duration(time.monotonic() - began)} so far{ahead}"


def duration(seconds):
    """Seconds in words, ? for None."""
    if seconds is None:
        return "?"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min" if minutes else "< 1 min"


def table(jobs, lines, side_by_side):
    """Head and one line for each job: lesson, task, seed, step, return of training episodes, time left."""
    left = experiments.time_left(jobs, lines, side_by_side)[0]
    head = f"{'lesson':<24} {'task':<16} seed {'step':>17} {'return':>8}  left"
    return [head, *(row(*parts) for parts in zip(jobs, lines, left))]


def row(job, line, left):
    """A lesson without behaviour is at its last step when training begins: there updates are counted."""
    at, whole = (line.get("step", 0), job.config.steps) if job.lesson.acts else (line.get("updates", 0), job.updates)
    score = line.get("return") if job.lesson.acts else None
    state = duration(left) if job.state == "running" and left is not None else job.state
    return (f"{job.lesson.name:<24} {job.task:<16} {job.seed:>4} {f'{at:,} / {whole:,}':>17} "
            f"{'' if score is None else f'{score:.1f}':>8}  {state}")


class Screen:
    """The table, redrawn in place on a terminal. Runs that do not fit are left out, the finished ones first."""

    def __init__(self, jobs, side_by_side, out):
        os.system("")           # on Windows: makes the console understand the escape codes below
        self.jobs, self.side_by_side, self.out = jobs, side_by_side, out
        self.began, self.shown, self.at = time.monotonic(), 0, -1.0

    def __call__(self, last=False):
        now = time.monotonic()
        if not last and now - self.at < 1:
            return
        self.at, size = now, shutil.get_terminal_size()
        lines = experiments.progress(self.jobs)
        body = table(self.jobs, lines, self.side_by_side)
        if len(body) + 3 > size.lines:
            order = sorted(range(len(self.jobs)), key=lambda i: STATES.index(self.jobs[i].state))
            body = [body[0], *(body[i + 1] for i in sorted(order[:max(1, size.lines - 4)]))]
        body += ["", overview(self.jobs, lines, self.side_by_side, self.began)]
        up = f"\x1b[{self.shown}A" if self.shown else ""
        self.out.write(up + "".join(f"{text[:size.columns - 1]}\x1b[K\n" for text in body) + "\x1b[J")
        self.out.flush()
        self.shown = len(body)


class Lines:
    """Where there is no terminal: a line for every run that begins or ends, and an overview from time to time."""

    def __init__(self, jobs, side_by_side, out):
        self.jobs, self.side_by_side, self.out = jobs, side_by_side, out
        self.began = self.at = time.monotonic()
        self.states = [job.state for job in jobs]

    def __call__(self, last=False):
        lines = experiments.progress(self.jobs)
        for i, job in enumerate(self.jobs):
            if job.state != self.states[i]:
                self.say(row(job, lines[i], None))
                self.states[i] = job.state
        if last or time.monotonic() - self.at > EVERY:
            self.at = time.monotonic()
            self.say(overview(self.jobs, lines, self.side_by_side, self.began))

    def say(self, text):
        print(f"{time.strftime('%H:%M:%S')}  {text}", file=self.out, flush=True)


# ------------------------------------------------------------------ the summary

def verdict(job, summary):
    """(score, bar met?) of a finished run; None if there is nothing to judge."""
    if not job.lesson.acts:
        return summary["ratio"], summary["ratio"] <= job.lesson.bar
    judged = [met for _, met in job.lesson.bar.check(summary)]
    return float(np.mean(summary["final"]["greedy"])), None if None in judged else all(judged)


def report(jobs, unreadable, judge=True):
    """Print each experiment with the scores of its seeds and its bar, then whatever failed."""
    for lesson, task in dict.fromkeys((job.lesson, job.task) for job in jobs):
        of_task = [job for job in jobs if (job.lesson, job.task) == (lesson, task)]
        done = [verdict(job, job.summary()) for job in of_task if job.state == "done"]
        scores = "  ".join(f"{score:.{1 if lesson.acts else 2}f}" for score, _ in done)
        met = f"bar met by {sum(m is True for _, m in done)} of {len(of_task)}" if judge else "toy size, not judged"
        print(f"{lesson.name:<24} {task:<16} {f'{met}:  {scores}' if done else 'nothing finished'}")
    for job in jobs:
        if job.state == "failed":
            print(f"failed: {job.lesson.name}, {job.task}, seed {job.seed}: {job.note}; see {job.folder / 'log.txt'}")
    for name, reason in unreadable.items():
        print(f"failed: {name}: {reason}")


# ------------------------------------------------------------------ the command

def cores():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_options(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", help="experiments by number or name; all if none is named")
    parser.add_argument("--jobs", type=int, default=cores(), help="runs side by side (default: the number of cores)")
    parser.add_argument("--runs", type=Path, help="folder of the training runs (default: runs)")
    parser.add_argument("--assets", type=Path, help="folder of results.json and the pictures (default: assets)")
    parser.add_argument("--collect", action="store_true", help="run nothing, store what is finished")
    parser.add_argument("--plots", action="store_true", help="only write tables and pictures, from results.json")
    parser.add_argument("--quick", action="store_true", help="everything in toy size, one seed, into runs/quick")
    options = parser.parse_args(argv)
    if options.jobs < 1:
        sys.exit(f"error: --jobs must be at least 1, not {options.jobs}")
    options.names = named(options.lessons)
    options.runs = options.runs or (ROOT / "runs" / "quick" if options.quick else ROOT / "runs")
    options.assets = (options.assets or (options.runs / "assets" if options.quick else ROOT / "assets")).absolute()
    return options


def named(words):
    """Names of the experiments that `words` name, all of them for none; in the order of the lessons."""
    found = set()
    for word in words:
        matching = [name for name in experiments.SEEDS if word and name.startswith(word.removesuffix(".py"))]
        if not matching:
            sys.exit(f"error: there is no experiment {word}; there are {', '.join(experiments.SEEDS)}")
        found.update(matching)
    return [name for name in experiments.SEEDS if name in found or not words]


def train(options):
    """Run what is missing, store and publish what is finished. Returns the exit code."""
    results.read(options.assets)                # if it is damaged, now is the time to say so
    jobs, unreadable = experiments.plan(options.names, options.runs, options.quick)
    watch = (Screen if sys.stdout.isatty() else Lines)(jobs, options.jobs, sys.stdout)
    if not options.collect:
        try:
            experiments.run_all(jobs, options.jobs, watch)
        finally:
            watch(last=True)
    stored = results.merge(results.read(options.assets), results.collect(jobs))
    results.write(options.assets / "results.json", stored)
    try:
        results.publish(options.assets)
    except experiments.LessonError as error:    # a lesson among the stored results or in the README's table of budgets
        unreadable["tables and pictures"] = str(error)
    report(jobs, unreadable, judge=not options.quick)
    return int(bool(unreadable) or any(job.state == "failed" for job in jobs))


def main(argv=None):
    """argv: flags, those of the command line if None. Returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    options = read_options(argv)
    try:
        if not options.plots:
            return train(options)
        if not results.read(options.assets):
            sys.exit(f"error: there is no {options.assets / 'results.json'}; run python train_all.py first")
        results.publish(options.assets)
        return 0
    except experiments.LessonError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot use {error.filename or options.assets}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("\nstopped; finished runs are kept, the others go on from their checkpoints:\n"
              f"  {shlex.join(['python', 'train_all.py', *argv])}", file=sys.stderr)
        return 130


def end(number, frame):
    """Let a signal that ends this process end its runs as well."""
    sys.exit(128 + number)


if __name__ == "__main__":
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)
    sys.exit(main())

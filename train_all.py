"""Run the experiments of the README, collect them in assets/results.json, write the tables, draw the curves.

    python train_all.py               # lessons 1 to 6, what is missing of them: many hours of one core
    python train_all.py 02 03         # only these lessons; 07 and 08, which need optional packages, run only if named
    python train_all.py --collect     # trains nothing: stores what is finished, and how far the others are
    python train_all.py --plots       # tables and curves again, from the stored results, and pictures of these lessons' shipped agents and models
    python train_all.py --quick       # the same in toy size, into runs/quick: does it work here?
    python train_all.py 06 --compile  # each run with torch.compile, which pays for those of half an hour and more
    python train_all.py --ray         # the runs as tasks of Ray, on this machine; --ray auto: on a running cluster

    python train_all.py 02 --set lr=3e-4,1e-3 --set entropy=3e-3,1e-2 --seeds 3

is a sweep: it runs every combination with seeds 0, 1 and 2. Its runs, a table and a picture go into runs/sweeps;
assets/ and the README stay as they are.

Each run is its lesson's own script, in a process of its own with one thread, in the folder that the script
itself would choose. Finished runs are skipped, killed ones go on from their checkpoints, results of
experiments that were not run are kept. A run that fails does not stop the others; then the exit code is 1.
"""

import argparse
import contextlib
import os
import shlex
import signal
import sys
from pathlib import Path

import numpy as np

from dreamer.tools import ray_runs, redraw, sweeps
from dreamer.tools.live import Lines, Screen
from dreamer.training import checkpoint, experiments, results, shipping
from dreamer.training.paths import shown
from dreamer.training.validate import ConfigError
from dreamer.visual import maps

ROOT = Path(__file__).resolve().parent


# ------------------------------------------------------------------ the summary

def verdict(job, summary):
    """(score, bar met?) of a finished run; None if there is nothing to judge."""
    if not job.lesson.acts:
        return summary["ratio"], summary["ratio"] <= job.lesson.bar
    judged = [met for _, met in job.lesson.bar.check(summary)]
    return job.lesson.bar.weakest(summary["final"]), None if None in judged else all(judged)


def report(jobs, unreadable, judge=True):
    """Print each experiment with the scores of its seeds and its bar, then whatever failed. Returns the exit code."""
    for lesson, task in dict.fromkeys((job.lesson, job.task) for job in jobs):
        of_task = [job for job in jobs if (job.lesson, job.task) == (lesson, task)]
        done = [verdict(job, job.summary()) for job in of_task if job.state == "done"]
        scores = "  ".join(f"{score:.{1 if lesson.acts and lesson.bar.success is None else 2}f}" for score, _ in done)
        met = f"bar met by {sum(m is True for _, m in done)} of {len(of_task)}" if judge else "toy size, not judged"
        print(f"{lesson.name:<24} {task:<16} {f'{met}:  {scores}' if done else 'nothing finished'}")
    return failures(jobs, unreadable)


def failures(jobs, unreadable):
    """Print whatever failed. Returns the exit code."""
    failed = [job for job in jobs if job.state == "failed"]
    for job in failed:
        print(f"failed: {job.name}, {job.task}, seed {job.seed}: {job.note}; see {job.folder / 'log.txt'}")
    for name, reason in unreadable.items():
        print(f"failed: {name}: {reason}")
    return int(bool(failed or unreadable))


# ------------------------------------------------------------------ the command

def cores():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_options(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", help="experiments by number or name; 01 to 06 if none is named")
    parser.add_argument("--jobs", type=int, help="runs side by side (default: as many as cores; a cluster: its room)")
    parser.add_argument("--runs", type=Path, help="folder of the training runs (default: runs)")
    parser.add_argument("--assets", type=Path, help="folder of results.json and its curves (default: assets)")
    parser.add_argument("--collect", action="store_true", help="train nothing, store what there is")
    parser.add_argument("--plots", action="store_true", help="only write tables and pictures, of results.json, shipped agents and models")
    parser.add_argument("--quick", action="store_true", help="in toy size, one seed, into runs/quick")
    parser.add_argument("--compile", action="store_true", help="train with --compile: faster, and another run of the same seed")
    sweep = parser.add_argument_group("sweeps")
    sweep.add_argument("--set", action="append", default=[], metavar="NAME=A,B", help="a hyperparameter and its values")
    sweep.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N - 1 of every combination (default: 1 seed)")
    sweep.add_argument("--name", help="folder in runs/sweeps (default: made of lessons and hyperparameters)")
    ray = parser.add_argument_group("Ray")
    ray.add_argument("--ray", nargs="?", const="local", choices=("auto", "local"),
                     help="run on Ray: one of this machine (local, the default), or the cluster that is running (auto)")
    ray.add_argument("--cpus", type=float, default=1, help="CPUs that Ray keeps for each run (default: 1)")
    ray.add_argument("--gpus", type=float, default=0, help="GPUs of each run, .5 for two runs on one (default: 0)")
    options = parser.parse_intermixed_args(ray_apart(argv))
    check(options)
    options.names = named(options.lessons)
    options.runs = options.runs or (ROOT / "runs" / "quick" if options.quick else ROOT / "runs")
    options.assets = (options.assets or (options.runs / "assets" if options.quick else ROOT / "assets")).absolute()
    return options


def ray_apart(argv):
    """`argv` with a lesson after --ray kept for what it is: --ray 02 is --ray=local 02."""
    return ["--ray=local" if word == "--ray" and after not in ("auto", "local") else word
            for word, after in zip(argv, [*argv[1:], ""])]


def check(options):
    """End the program with one sentence if flags do not go together."""
    for name, allowed, words in (
            ("jobs", options.jobs is None or options.jobs >= 1, "at least 1"),
            ("seeds", options.seeds is None or options.seeds >= 1, "at least 1"),
            ("cpus", 0 < options.cpus < np.inf, "above 0"),
            ("gpus", 0 <= options.gpus <= 1 or (options.gpus > 1 and options.gpus.is_integer()),
             "0 to 1, or a whole number")):
        if not allowed:
            sys.exit(f"error: --{name} must be {words}, not {getattr(options, name):g}")
    options.sweep = bool(options.set or options.seeds)
    if options.name and not options.sweep:
        sys.exit("error: --name is the folder of a sweep; give --set or --seeds, too")
    if options.sweep and (options.plots or options.assets):
        sys.exit("error: a sweep writes into runs/sweeps alone; --collect draws its table and picture again, "
                 "--runs takes another folder")
    if not options.ray and (options.cpus, options.gpus) != (1, 0):
        sys.exit("error: --cpus and --gpus say what a run gets from Ray; give --ray, too")


def named(words):
    """Names of the experiments that `words` name, for none those that need no name; in the order of the lessons."""
    found = set()
    for word in words:
        matching = [name for name in experiments.SEEDS if word and name.startswith(word.removesuffix(".py"))]
        if not matching:
            sys.exit(f"error: there is no experiment {word}; there are {', '.join(experiments.SEEDS)}")
        found.update(matching)
    return [name for name in experiments.SEEDS if name in found or not words and name not in experiments.IF_NAMED]


def run(options, jobs):
    """Run what is waiting, here or on Ray, and show how far it is."""
    here = options.jobs or cores()
    place = contextlib.nullcontext((experiments.own_process, here))
    if options.ray and any(job.state == "waiting" for job in jobs):
        jobs_at_once = here if options.ray == "local" else options.jobs
        place = ray_runs.connected(options.ray, jobs_at_once, options.cpus, options.gpus)
    with place as (launch, side_by_side):
        watch = (Screen if sys.stdout.isatty() else Lines)(jobs, side_by_side, sys.stdout)
        try:
            experiments.run_all(jobs, side_by_side, watch, launch=launch)
        finally:
            watch(last=True)


def train(options):
    """Run what is missing, store and publish what is finished. Returns the exit code."""
    results.read(options.assets)                # if it is damaged, now is the time to say so
    jobs, unreadable = experiments.plan(options.names, options.runs, options.quick, options.compile)
    if not options.collect:
        run(options, jobs)
    before = results.read(options.assets)
    stored = results.merge(before, {**results.collect(jobs), **begun(jobs, unreadable)})
    new, failed = ship(jobs, options.assets, before, stored)
    unreadable |= failed
    results.write(options.assets / "results.json", stored)
    try:
        results.publish(options.assets)
    except experiments.LessonError as error:    # a lesson among the stored results or in the README's table of budgets
        unreadable["tables and pictures"] = str(error)
    code = report(jobs, unreadable, judge=not options.quick)
    if options.quick:
        return max(code, redraw.call("04_visualize.py", "--shipped", "--env", next(iter(maps.TASKS)), "--output", str(options.assets)))
    return max(code, redraw.look(new, options.assets))


def begun(jobs, unreadable):
    """Entries of the runs that are not finished; a checkpoint that cannot be read is named in `unreadable`."""
    entries = []
    for job in jobs:
        try:
            entries += results.begun(job)
        except checkpoint.CheckpointError as error:
            unreadable[f"the unfinished run {job.folder.name}"] = str(error)
    return {results.UNFINISHED: entries}


def ship(jobs, assets, before, stored):
    """Copy the agents of seed 0 whose results are new into the assets. Returns (lesson, task) of each, and {what: reason} for what cannot be."""
    new_agents, failed = [], {}
    for job in jobs:
        source, target = job.folder / "checkpoint.pt", shipping.place(job.lesson, job.task, assets)
        old, new = ([e for e in kept.get(job.lesson.name, []) if (e["task"], e["seed"]) == (job.task, 0)]
                    for kept in (before, stored))
        if job.seed or not job.summary() or not source.exists():
            continue
        if old == new and target.exists():
            continue
        try:
            if checkpoint.load(source)["updates"] != job.summary()["updates"]:
                raise checkpoint.CheckpointError(f"{source} is not of the end of its run")
            shipping.ship(source, target)
            new_agents.append((job.lesson.name, job.task))
        except checkpoint.CheckpointError as error:
            failed[f"the {'agent' if job.lesson.acts else 'model'} of {job.task}"] = str(error)
    return new_agents, failed


def sweep(options):
    """Run every combination of --set with every seed; table and picture into one folder. Returns the exit code."""
    grid = sweeps.read_grid(options.set)
    name = sweeps.named(options.name, options.names if options.lessons else [], grid)
    folder = options.runs.absolute() / "sweeps" / name
    jobs, unreadable = sweeps.plan(options.names, folder, grid, options.seeds or 1, options.quick)
    for job in jobs:
        job.compiled = options.compile
    print(f"{len(jobs)} run{'s' * (len(jobs) != 1)}, {sum(job.state == 'done' for job in jobs)} of them done; writing to {shown(folder)}")
    if not options.collect:
        run(options, jobs)
    print(f"\n{sweeps.write(folder, jobs, grid)}\nfiles: {shown(folder)}/table.txt, results.csv, results.png")
    return failures(jobs, unreadable)


def main(argv=None):
    """argv: flags, those of the command line if None. Returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    options = read_options(argv)
    try:
        if options.sweep:
            return sweep(options)
        if not options.plots:
            return train(options)
        if not results.read(options.assets):
            sys.exit(f"error: there is no {options.assets / 'results.json'}; run python train_all.py first")
        results.publish(options.assets)
        return redraw.look(redraw.shipped_tasks(options.names, options.assets), options.assets)
    except (experiments.LessonError, ConfigError, ray_runs.ClusterError) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot use {error.filename or options.assets}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("\nstopped; finished runs are kept, the others go on from their checkpoints:\n"
              f"  {shlex.join(['python', str(shown(ROOT / 'train_all.py')), *argv])}", file=sys.stderr)
        return 130


def end(number, frame):
    """Let a signal that ends this process end its runs as well."""
    sys.exit(128 + number)


if __name__ == "__main__":
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)
    sys.exit(main())

"""The experiments of the README: which lessons with which seeds, how to run them, and how far each run is.

What a lesson trains and what counts as solved stands in its script alone: DEFAULTS, BAR and, where one
script has several tasks, TASKS. They are read from there. Where tasks differ in their budgets, TASKS is a dict
of what each changes in DEFAULTS, and BAR one of their bars.
"""

import functools
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..config import Config
from . import paths
from .flags import parse_flags
from .offline import random_only

HERE = SCRIPTS = Path(__file__).resolve().parents[2]        # the folder of the package; that of the lessons' scripts
SEEDS = {"01_world_model_demo": 3, "02_dreamer_cartpole": 5, "03_dreamer_pendulum": 5, "05_dreamer_acrobot": 5,
         "06_dreamer_lunar_lander": 3, "07_dreamer_minigrid": 3, "08_dreamer_walker_walk": 2}   # seeds 0 up to this number
IF_NAMED = {"07_dreamer_minigrid", "08_dreamer_walker_walk"}    # many hours and optional packages: run by name only
TOY = shlex.split("--steps 60 --prefill 30 --batch-size 2 --batch-length 8 --starts 4 --imagination-horizon 3 "
                  "--train-ratio 4 --eval-every 30 --eval-episodes 1 --final-episodes 1 --log-every 10")
WITHOUT_EFFECT = {"output", "resume", "device", "threads", "compile", "async_envs", "env_timeout", "log_every"}    # two runs may differ in these, if only by rounding
TOLD = ("steps", "eval_every", "eval_episodes", "compile", "async_envs")       # flags that a command names where a run has its own


class LessonError(Exception):
    """A lesson's script cannot be read; the message says why."""


# ------------------------------------------------------------------ lessons

@dataclass(frozen=True)
class Lesson:
    """What a script says of itself."""
    name: str               # 02_dreamer_cartpole
    defaults: Config
    tasks: tuple
    bar: object             # bar.Bar, or a dict of them; without behaviour: largest error relative to the better guess
    acts: bool              # False: only a world model is trained
    held_out: int           # episodes that a lesson without behaviour is measured on
    budgets: dict = field(default_factory=dict, compare=False)      # task: what it changes in the defaults

    def of(self, task):
        """The same lesson with the budget and the bar of one of its tasks."""
        bar = self.bar[task] if isinstance(self.bar, dict) else self.bar
        return replace(self, defaults=replace(self.defaults, env=task, **self.budgets.get(task, {})), bar=bar)

    @property
    def number(self):
        return self.name[:2]

    def updates(self, config):
        """Model updates of a whole run; with several environments it may be a few less (see Run.updates_due, train_world_model)."""
        if not self.acts:
            return random_only(config).planned_updates
        return config.planned_updates + 1 if config.steps > config.prefill else 0


def load(name):
    """The Lesson of a script's name. Raises LessonError."""
    return load_script(SCRIPTS / f"{name}.py")


@functools.cache
def load_script(path):
    """Import a script, without running it. Raises LessonError."""
    spec = importlib.util.spec_from_file_location(f"lesson_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        tasks = getattr(module, "TASKS", (module.DEFAULTS.env,))
        return Lesson(path.stem, module.DEFAULTS, tuple(tasks), module.BAR, not isinstance(module.BAR, float),
                      getattr(module, "EPISODES", 0), tasks if isinstance(tasks, dict) else {})
    except FileNotFoundError:
        raise LessonError(f"there is no {path.name}") from None
    except Exception as error:          # whatever a script may do: the other lessons go on
        raise LessonError(f"{path.name} cannot be read: {type(error).__name__}: {error}") from error


# ------------------------------------------------------------------ one run

@dataclass
class Job:
    """One run: a lesson's script with one task and one seed, in a folder and a process of its own."""
    lesson: Lesson
    task: str
    seed: int
    folder: Path
    flags: list
    name: str = ""                  # what the live table calls it; empty: the lesson's name
    state: str = "waiting"          # running, done, failed, stopped
    note: str = ""                  # why it failed
    compiled: bool = False          # to be trained with --compile
    process: subprocess.Popen = field(default=None, repr=False)

    def __post_init__(self):
        self.name = self.name or self.lesson.name
        self.config = parse_flags(self.lesson.defaults, self.arguments())
        self.updates = self.lesson.updates(self.config)

    def arguments(self, threads=1):
        task = ["--env", self.task] if len(self.lesson.tasks) > 1 else []
        return [*task, "--seed", str(self.seed), "--threads", str(threads), *self.flags]

    def command(self, summary=None):
        """The command of this run as a reader would type it, in any folder of his own; as `summary` says it was made."""
        made, planned = (summary or {}).get("config", {}), asdict(self.config)
        flags = []
        for name in TOLD:
            value, dashed = made.get(name, planned[name]), name.replace("_", "-")
            if value != planned[name]:
                flags += [f"--{dashed}" if value else f"--no-{dashed}"] if isinstance(value, bool) else [f"--{dashed}", str(value)]
        return shlex.join(["python", f"{self.lesson.name}.py", *self.arguments(made.get("threads", 1)), *flags])

    def summary(self, free=WITHOUT_EFFECT):
        """summary.json of the finished run, or None if it is not finished or was made with other settings, but for the `free` ones."""
        try:
            summary = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
            made_with = summary.get("config") or dict(zip(("env", "seed", "steps"),
                                                          (summary["task"], summary["seed"], summary["steps"])))
        except (OSError, ValueError, KeyError, AttributeError):
            return None
        return summary if self.same(made_with, free) else None

    def same(self, made_with, free=WITHOUT_EFFECT):
        """Are the settings `made_with` (what is missing counts as the same) those of this run, but for the `free` ones?"""
        return all(made_with.get(name, value) == value for name, value in asdict(self.config).items() if name not in free)

    def script(self):
        """The script and its flags, a list of texts. Only a whole run of seed 0 in its own folder draws into assets/."""
        own = self.seed == 0 and not self.flags and self.folder.parent == paths.ROOT / "runs"
        return [str(SCRIPTS / f"{self.lesson.name}.py"), *self.arguments(), *["--output", str(self.folder)] * (not own), *["--compile"] * self.compiled]

    def start(self, launch):
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.process = launch(self)
            self.state = "running"
        except OSError as error:
            self.state, self.note = "failed", str(error)

    def poll(self):
        """Notice that the process has ended."""
        if self.state != "running" or self.process.poll() is None:
            return
        self.state = "done" if self.process.returncode == 0 and self.summary() else "failed"
        if self.state == "failed":
            self.note = f"{last_line(self.folder / 'log.txt') or 'no message'} (exit code {self.process.returncode})"


def own_process(job):
    """Start a run on this machine, in a process of its own. What it prints goes to log.txt."""
    with open(job.folder / "log.txt", "ab") as log:
        return subprocess.Popen([sys.executable, *job.script()], cwd=HERE, stdin=subprocess.DEVNULL, stdout=log,
                                stderr=log, env={**os.environ, "DREAMER_QUIET": "1"})


def last_line(path):
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def plan(names, runs, toy=False, compiled=False):
    """All runs of the experiments `names`: list of Job, and a dict of name to reason for what cannot be read."""
    jobs, unreadable = [], {}
    for name in names:
        try:
            lesson = load(name)
        except LessonError as error:
            unreadable[name] = str(error)
            continue
        for task in lesson.tasks:
            for seed in range(1 if toy else SEEDS[name]):
                folder = runs.absolute() / (("" if lesson.acts else f"{lesson.number}-") + paths.run_folder(task, seed).name)
                jobs.append(Job(lesson.of(task), task, seed, folder, TOY if toy else [], compiled=compiled))
    for job in jobs:
        job.state = "done" if job.summary() else "waiting"
    return jobs, unreadable


# ------------------------------------------------------------------ all runs

def run_all(jobs, side_by_side, watch, pause=0.5, launch=own_process):
    """Run every waiting job, `side_by_side` at once; watch() is called every `pause` seconds.

    launch(job) starts one and returns a subprocess.Popen, or what behaves like one. However this ends, no
    process is left behind. A job that fails does not stop the others.
    """
    try:
        while any(job.state in ("waiting", "running") for job in jobs):
            for job in jobs:
                job.poll()
            free = side_by_side - sum(job.state == "running" for job in jobs)
            for job in [job for job in jobs if job.state == "waiting"][:max(0, free)]:
                job.start(launch)
            watch()
            time.sleep(pause)
    finally:
        stop([job for job in jobs if job.state == "running"])


def stop(running, patience=10):
    """End processes: ask first, insist after `patience` seconds. Checkpoints are whole at any moment."""
    for job in running:
        job.process.terminate()
        job.state = "stopped"
    for job in running:
        try:
            job.process.wait(patience)
        except subprocess.TimeoutExpired:
            job.process.kill()
            job.process.wait()


# ------------------------------------------------------------------ how far they are

def measured(folder):
    """Every whole line of metrics.jsonl, a list of dicts; empty if there is none."""
    path = folder / "metrics.jsonl"
    try:
        return read_lines(path, path.stat().st_size)
    except OSError:
        return []


@functools.lru_cache(256)
def read_lines(path, size):
    """`size` makes the answer a new one when the file has grown."""
    lines = []
    for line in path.read_bytes().split(b"\n"):
        try:
            lines.append(json.loads(line))
        except ValueError:              # the last line, empty or in the making
            break
    return lines


def progress(jobs):
    """The latest line of metrics.jsonl of every job, {} where there is none."""
    return [(measured(job.folder) or [{}])[-1] for job in jobs]


def time_left(jobs, lines, side_by_side):
    """Seconds left for each job, and for all of them together; None where no rate is known yet.

    From the seconds per update so far: the job's own, or that of all jobs for one that has made none.
    """
    known = [(line["seconds"], line["updates"]) for line in lines if line.get("updates")]
    common = sum(s for s, _ in known) / sum(n for _, n in known) if known else None
    each = []
    for job, line in zip(jobs, lines):
        made = line.get("updates", 0)
        rate = line["seconds"] / made if made else common
        over = job.state not in ("waiting", "running")
        each.append(0.0 if over else None if rate is None else max(0, job.updates - made) * rate)
    if None in each:
        return each, None
    return each, max(sum(each) / side_by_side, max(each, default=0.0))

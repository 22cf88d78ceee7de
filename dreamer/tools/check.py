"""python -m dreamer check: what is here, how fast it is, and whether the tricks of the algorithm work."""

import importlib.metadata
import os
import platform
import tempfile
import textwrap
import time
from dataclasses import dataclass

import torch
from packaging.requirements import Requirement

from ..config import Config
from ..training import experiments
from ..training.loop import Run, pick_device
from ..training.records import versions
from ..training.tasks import seen_as_pictures
from .options import read
from .tricks import all_findings

WIDTH = 110                     # of a line
SECONDS, BUSY = 2, 0.8          # for the estimate of the speed; least share of a core that an idle machine gives
SHAPES = ("size", "batch_size", "batch_length", "starts", "imagination_horizon")       # what an update costs depends on


@dataclass(frozen=True)
class CheckOptions:
    """One screen: versions, device, extras, speed, and four tricks of the algorithm on synthetic data."""


def work(argv, runs):
    """Print all parts. Returns the exit code, 1 if a trick does not work; runs: see `cli.guarded`."""
    read(CheckOptions, argv)
    for part in (machine, extras, speed):
        print("\n".join(part()), end="\n\n", flush=True)
    findings = all_findings()
    print("\n".join(tricks(findings)))
    return int(not all(found.good for found in findings))


# ------------------------------------------------------------------ what is here

def machine():
    """Versions, device and threads: lines of text."""
    found, device = versions(), pick_device("auto")
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or found["machine"]
    return [", ".join(f"{package} {found[package]}" for package in ("python", "torch", "gymnasium", "numpy"))
            + f"; {found['system']} on {found['machine']}",
            f"device {device} ({name}), {os.cpu_count()} cores; torch would take {torch.get_num_threads()} threads, "
            f"the course takes {Config.threads}"]


def extras():
    """Every package of requirements-extras.txt, present or missing, and what needs it: lines of text."""
    file = experiments.SCRIPTS / "requirements-extras.txt"
    if not file.exists():
        return ["extras: there is no requirements-extras.txt"]
    lines, about = ["extras (pip install -r requirements-extras.txt brings them all):"], ""
    for line in file.read_text(encoding="utf-8").splitlines():
        wanted, _, comment = (part.strip() for part in line.partition("#"))
        about = comment or about        # a comment stands behind its package, or above several
        if wanted and fits(package := Requirement(wanted)):
            lines += textwrap.wrap(f"  {installed(package.name):<24} {about}", WIDTH, subsequent_indent=" " * 27)
    return lines


def fits(package):
    """Is this line of requirements.txt for this machine and this Python?"""
    return package.marker is None or package.marker.evaluate()


def installed(package):
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} is missing"


# ------------------------------------------------------------------ how fast it is

def speed():
    """Time of an update with the acting that goes with it, and what the lessons take at that rate: lines of text."""
    rate, worked = seconds_per_update()
    minutes = []
    for name in experiments.SEEDS:
        try:
            lesson = experiments.load(name)
        except experiments.LessonError as error:
            minutes.append(f"{name[:2]} not known ({error})")
            continue
        for config in (lesson.of(task).defaults for task in lesson.tasks):
            alike = all(getattr(config, field) == getattr(Config, field) for field in SHAPES)
            most = "at most " * (not lesson.acts) + "far more than " * seen_as_pictures(config.env)     # no dream to pay for; convolutions
            took = f"{most}{lesson.updates(config) * rate / 60:.0f}" if alike else "not known"
            minutes.append(f"{lesson.number}~{config.env} {took}")          # ~: no end of a line
    listed = textwrap.fill("minutes for one seed of each lesson, evaluations not counted: " + ", ".join(minutes), WIDTH,
                           subsequent_indent="  ", break_on_hyphens=False).replace("~", " ")
    lines = [f"one update, and acting for it: {1000 * rate:.0f} ms (CartPole, one thread, in {SECONDS} seconds)",
             listed]
    if pick_device("auto") == "cpu" and worked < BUSY * rate:
        lines.append(f"other work keeps this machine busy: alone, {worked / rate:.2f} of these times would do")
    return lines


def seconds_per_update():
    """Train on CartPole for SECONDS, in a folder that is removed afterwards: time per update by the clock, and that in
    which the processor worked for it."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Config(output=folder, prefill=300))
        run.collector.begin()
        while run.learner.updates < 2:              # the first ones take longer
            run.collector.step(random=run.step < run.config.prefill)
            run.learn()
        began, worked, before = time.perf_counter(), time.process_time(), run.learner.updates
        while time.perf_counter() - began < SECONDS or run.learner.updates == before:
            run.collector.step(random=False)
            run.learn()
        made = run.learner.updates - before
        times = (time.perf_counter() - began) / made, (time.process_time() - worked) / made
        run.envs.close()
    return times


# ------------------------------------------------------------------ does it work

def tricks(findings):
    """A line for each trick with its number, the number without it, and the range where the first should be."""
    lines = [f"tricks, on synthetic data{'':20}with    without   should be"]
    for found in findings:
        verdict = "works" if found.good else "is OFF"
        lines.append(f"  {found.trick:<25} {verdict:<8} {found.with_it:12.3f} {found.without:10.3f}   "
                     f"{found.low:g} to {found.high:g}")
        lines.append(f"    {found.what}")
    off = [found.trick for found in findings if not found.good]
    return [*lines, f"off: {', '.join(off)}" if off else "all of them work"]

"""The live table of many runs: redrawn in place on a terminal, plain lines elsewhere."""

import os
import shutil
import time

from ..training import experiments

STATES = ("running", "waiting", "done", "failed", "stopped")
EVERY = 600         # seconds between two overviews where there is no terminal


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
    ends = (f"{end(job):,} / {end(job):,}" for job in jobs)
    widths = [max(map(len, texts)) for texts in (("lesson", *map(short, jobs)), ("task", *(job.task for job in jobs)), ("step", *ends))]
    head = f"{'lesson':<{widths[0]}} {'task':<{widths[1]}} seed {'step':>{widths[2]}} {'return':>8}  left"
    return [head, *(row(*parts, *widths) for parts in zip(jobs, lines, left, map(short, jobs)))]


def short(job):
    """What a run is called in a narrow table: its lesson's number, or its name in a sweep."""
    return job.lesson.number if job.name == job.lesson.name else job.name


def end(job):
    """The number of steps of a run. A lesson without behaviour is at its last step when training begins: there updates are counted."""
    return job.config.steps if job.lesson.acts else job.updates


def row(job, line, left, name="", width=24, task_width=16, step_width=17):
    """A line of the table: where a run is, of how many steps."""
    at = line.get("step" if job.lesson.acts else "updates", 0)
    score = line.get("return") if job.lesson.acts else None
    digits = 3 if job.lesson.acts and job.lesson.bar.success is not None else 1
    state = duration(left) if job.state == "running" and left is not None else job.state
    return (f"{name or job.name:<{width}} {job.task:<{task_width}} {job.seed:>4} {f'{at:,} / {end(job):,}':>{step_width}} "
            f"{'' if score is None else f'{score:.{digits}f}':>8}  {state}")


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

"""What every lesson script shares: flags, clear refusals, a run, a summary, and the lesson's bar."""

import contextlib
import io
import shlex
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args, get_origin

import numpy as np
import tyro

from ..config import OFFICIAL, Config
from .checkpoint import CheckpointError
from .envs import TaskError
from .evaluate import decimals
from .loop import Run
from .memory import out_of_memory
from .paths import curve, shown
from .records import DivergenceError
from .validate import ConfigError, brief, flag, suggestion, validate

USAGE, FAILED, INTERRUPTED = 2, 1, 130      # exit codes
RECIPES = {"official": OFFICIAL, "course": {name: getattr(Config(), name) for name in OFFICIAL}}


@dataclass(frozen=True)
class Bar:
    """What counts as solved. `final`: least mean return of the fresh greedy episodes at the end;
    `window`: least mean of the greedy evaluations at the steps `at`, all of them together. `success`, in place of both:
    least share of the fresh episodes at the end, greedy and sampled alike, whose return is above 0."""
    final: float | None = None
    window: float | None = None
    at: tuple = ()
    success: float | None = None

    @property
    def least(self):
        """The least score that counts as solved, see `score`."""
        return self.final if self.success is None else self.success

    def score(self, returns):
        """What is judged of the returns of some episodes: their mean, or the share above 0."""
        return mean(returns) if self.success is None else share_above_0(returns)

    def weakest(self, final):
        """The score that the end of a run is judged by: of greedy episodes; of success the weaker of both ways to act."""
        return min(self.score(final[mode]) for mode in (["greedy"] if self.success is None else ["greedy", "sampled"]))

    def check(self, summary):
        """summary of a run -> list of (sentence, met?); met is None if there is nothing to judge."""
        if self.success is not None:
            shares = {mode: share_above_0(summary["final"][mode]) for mode in ("greedy", "sampled")}
            return [(f"success in {share:.1%} of {len(summary['final'][mode])} fresh {mode} episodes, "
                     f"wanted {self.success:.0%}", share >= self.success) for mode, share in shares.items()]
        score = mean(summary["final"]["greedy"])
        checks = [(f"mean of {len(summary['final']['greedy'])} fresh greedy episodes {score:.1f}, "
                   f"wanted {self.final:g}", score >= self.final)]
        if self.window is None:
            return checks
        envs, found = summary["config"]["envs"], []
        for step in self.at:        # several environments may reach an evaluation a few steps late
            found += [mean(e["greedy"]) for e in summary["evaluations"] if step <= e["step"] < step + envs]
        at = ", ".join(map(str, self.at))
        if len(found) < len(self.at):
            return [*checks, (f"this run has no evaluations at steps {at}", None)]
        return [*checks, (f"mean of the greedy evaluations at steps {at} {mean(found):.1f}, "
                          f"wanted {self.window:g}", mean(found) >= self.window)]


def mean(values):
    return float(np.mean(values))


def share_above_0(returns):
    """What tasks with one reward at the end count as success."""
    return mean(np.asarray(returns) > 0)


# ------------------------------------------------------------------ flags

def parse_flags(defaults, argv, about=""):
    """Config from a command line. `--recipe` replaces the defaults before all other flags count.

    Raises ConfigError with one sentence, or SystemExit(0) after --help.
    """
    given = dict(read_flags(argv))
    return validate(ask_tyro(with_recipe(defaults, given.get("recipe")), argv, about, Path(sys.argv[0]).name))


def with_recipe(config, wanted):
    """`config` with all values in which the recipes differ, if it is of another recipe than the `wanted` one."""
    return config if wanted in (None, config.recipe) else replace(config, **RECIPES[wanted])


def ask_tyro(defaults, argv, about, program):
    """An instance of the dataclass of `defaults` from flags that `read_flags` lets through, or all of --help."""
    refusal = io.StringIO()
    try:
        with contextlib.redirect_stderr(refusal):
            return tyro.cli(type(defaults), prog=program, default=defaults, args=argv,
                            description=about.strip().partition("\n")[0])
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(f"cannot read the flags {brief(shlex.join(argv))}; --help lists them all") from None


def read_flags(argv, classes=(Config,), word_for=None):
    """Yield (field name, text or None) for each flag; raise ConfigError for the first that is wrong.

    classes: the dataclasses whose fields are flags. word_for: the field that a first word without -- is for.
    """
    kinds = {field.name.rstrip("_"): field.type for kind in classes for field in fields(kind)}
    words = list(argv)
    while words:
        if word_for and not words[0].startswith("-"):
            yield word_for, words.pop(0)
            word_for = None
            continue
        word, equals, value = words.pop(0).partition("=")
        if word in ("-h", "--help"):
            continue
        name = word.removeprefix("--").replace("-", "_")
        switch = kinds.get(name.removeprefix("no_")) is bool
        if not word.startswith("--") or (name not in kinds and not switch):
            known = [flag(k) for k in kinds]
            kind = "unknown flag" if word.startswith("-") else "unexpected word"
            raise ConfigError(f"{kind} {brief(word)}{suggestion(word.replace('_', '-'), known)} (--help lists all flags)")
        if switch:
            if equals:
                raise ConfigError(f"{word} takes no value; write {flag(name.removeprefix('no_'))} "
                                  f"or --no-{name.removeprefix('no_').replace('_', '-')}")
            yield name, None
            continue
        if not equals:
            if not words or words[0].startswith("--"):
                raise ConfigError(f"{word} needs a value")
            value = words.pop(0)
        check_text(name, value, kinds[name])
        yield name, value


def check_text(name, text, kind):
    """Raise ConfigError unless `text` can be read as what the field `name` holds."""
    if get_origin(kind) is Literal and text not in get_args(kind):
        raise ConfigError(f"{flag(name)} must be one of {', '.join(get_args(kind))}, not {brief(text)}"
                          f"{suggestion(text, get_args(kind))}")
    if kind in (int, float):
        try:
            kind(text)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise ConfigError(f"{flag(name)} must be {wanted}, not {brief(text)}") from None


# ------------------------------------------------------------------ the whole of a lesson script

def run_lesson(defaults, bar=None, argv=None, about=""):
    """Train as the command line says and print what came of it. Returns the exit code.

    0: the run is complete, whether or not the bar was met. 1: task, checkpoint or folder cannot be
    used. 2: a flag is wrong. 130: stopped by Ctrl-C. argv: None takes the program's own. about: the
    lesson's docstring, whose first line heads --help.
    """
    def work(argv, runs):
        config = parse_flags(defaults, argv, about)
        run = start(config, argv, runs)
        train(run, bar if config.env == defaults.env else None, curve(config.output, run.folder))
    return guarded(work, argv)


def train(run, bar=None, picture=None):
    """The whole of a run, reported; see `report`."""
    if run.config.steps <= run.config.prefill:
        print(f"note: all {run.config.steps} steps are random prefill, nothing will be learned")
    report(run.train(), run.folder, bar, picture)


def start(config, argv, runs, watchers=()):
    """A Run of `config`, announced, and remembered in `runs`."""
    run = Run(config, command_line(argv), watchers)
    runs.append(run)
    print(f"{config.env}, seed {config.seed}, on {run.device}; writing to {shown(run.folder)}")
    return run


def guarded(work, argv=None):
    """work(argv, runs), with one sentence for whatever goes wrong. Returns the exit code, that of work if it has one.

    argv: None takes the program's own. `runs`: an empty list in which work leaves the Run it is at.
    """
    argv, runs = sys.argv[1:] if argv is None else list(argv), []
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):      # names with letters that the terminal has not; logs that can be followed
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        return work(argv, runs) or 0
    except ConfigError as error:
        return refuse(error, USAGE)
    except (TaskError, CheckpointError, DivergenceError) as error:
        return refuse(error, FAILED)
    except BrokenPipeError:             # whoever read the output has stopped reading
        return FAILED
    except OSError as error:
        file = error.filename or (runs[-1].folder if runs else "the output folder")
        return refuse(f"cannot use {file}: {error.strerror or error}; --output takes another folder", FAILED)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return refuse("this machine has not enough memory for that; --size, --batch-size, --batch-length, --starts and "
                      "--capacity take less", FAILED)
    except KeyboardInterrupt:
        return interrupted(runs[-1] if runs else None, argv)


def again(argv, run):
    """What to type to go on with a run: its command line, but for a --no-resume, which would delete what there is."""
    words = [word for word in argv if word not in ("--no-resume", "--no_resume")]
    from_file = "--config" in words and not run.config.resume           # which may say resume: false
    return command_line([*words, "--resume"] if from_file else words)


def command_line(argv):
    """What to type to get here again; sys.argv[0] of `python -m dreamer` is the file dreamer/__main__.py."""
    file = Path(sys.argv[0])
    program = ["-m", "dreamer"] if (file.parent.name, file.name) == ("dreamer", "__main__.py") else [sys.argv[0]]
    return shlex.join(["python", *program, *argv])


def refuse(error, code):
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def interrupted(run, argv):
    """Say where the stopped run stands and how to go on with it."""
    if run is None:
        print("\nstopped", file=sys.stderr)
        return INTERRUPTED
    where = f"the checkpoint of step {run.saved_at}" if run.saved_at else "the beginning (there is no checkpoint yet)"
    print(f"\nstopped at step {run.step}. To go on from {where}:\n  {again(argv, run)}", file=sys.stderr)
    return INTERRUPTED


def report(summary, folder, bar=None, picture=None, success=False):
    """Print scores, the bar and the files of a finished run, and draw its curve into the file `picture` (None: curve.png in
    its folder). success: the shares of returns above 0, too."""
    print(f"\n{summary['task']}, seed {summary['seed']}: {summary['steps']} steps, {summary['updates']} updates, "
          f"{summary['seconds'] / 60:.1f} minutes\n\n   step   greedy  sampled   (mean returns)"
          + "   greedy  sampled   (success)" * success)
    scored = [*summary["evaluations"], {"step": "final", **summary["final"]}]
    digits = decimals(*(scores[mode] for scores in scored for mode in ("greedy", "sampled")))
    for scores in scored:
        both = scores["greedy"], scores["sampled"]
        line = "".join(f" {mean(returns):8.{digits}f}" for returns in both)
        rates = " " * 17 + "".join(f" {share_above_0(returns):8.1%}" for returns in both)
        print(f"{scores['step']:>7}{line}{rates if success else ''}")
    print()
    for sentence, met in bar.check(summary) if bar else ():
        print({True: "bar met:     ", False: "bar not met: ", None: "not judged:  "}[met] + sentence)
    from ..visual.curves import own         # here: --help need not wait for matplotlib
    if figure := own(summary, bar):
        picture = picture or folder / "curve.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, dpi=110)
    print(f"files: {shown(folder)}/summary.json, metrics.jsonl, checkpoint.pt{f' and {shown(picture)}' if figure else ''}")

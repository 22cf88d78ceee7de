"""What every lesson script shares: clear refusals, a run, its report, and the lesson's bar."""

import shlex
import sys
from pathlib import Path

from .bar import mean, share_above_0
from .checkpoint import CheckpointError
from .envs import TaskError
from .evaluate import decimals
from .flags import parse_flags
from .loop import Run
from .memory import out_of_memory
from .paths import curve, shown
from .records import DivergenceError
from .validate import ConfigError

USAGE, FAILED, INTERRUPTED = 2, 1, 130      # exit codes


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
    print(f"files: {shown(folder)}/summary.json, metrics.jsonl, checkpoint.pt")
    from ..visual.curves import own         # here: --help need not wait for matplotlib
    if figure := own(summary, bar):
        picture = picture or folder / "curve.png"
        try:
            picture.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(picture, dpi=110)
            print(f"curve: {shown(picture)}")
        except OSError as error:            # the run is whole all the same
            print(f"no curve: cannot write {shown(picture)}: {error.strerror or error}")

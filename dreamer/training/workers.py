"""Environments in processes of their own, which may hang, die, or outlive what they were started for."""

import multiprocessing
import os
import signal
import threading

PATIENCE = 3        # seconds that a process has to end when it is asked to


def context(draws):
    """How processes for environments start, a name or None for the system's way.

    One that draws is no fork of this process: no renderer promises that what it has opened here works in another.
    """
    if not draws or "forkserver" not in multiprocessing.get_all_start_methods():
        return None
    multiprocessing.set_forkserver_preload(["dreamer.training.envs"])       # imported once for all of them
    return "forkserver"


class NoAnswer(Exception):
    """An environment did not answer; the message says which and why."""


def follow_parent():
    """For a new process: leave Ctrl-C to its parent, and end with it, even in a step that never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)
    threading.Thread(target=wait, daemon=True).start()


def ask(envs, timeout, what, arguments):
    """The answer of an AsyncVectorEnv to `what`, reset or step, within `timeout` seconds (None: no limit).

    Raises NoAnswer.
    """
    try:
        getattr(envs, f"{what}_async")(**arguments)
        return getattr(envs, f"{what}_wait")(timeout=timeout)
    except multiprocessing.TimeoutError:
        slow = next((i for i, pipe in enumerate(envs.parent_pipes) if not pipe.poll()), 0)
        raise NoAnswer(f"environment {slow} gave no answer to {what} within {timeout:g} seconds; "
                       "--env-timeout allows more") from None
    except (EOFError, OSError):
        raise NoAnswer(f"the process of {ended(envs)}") from None


def ended(envs):
    """Which environment's process has ended, and how, in words."""
    for i, process in enumerate(envs.processes):
        process.join(0.2)               # a pipe may be closed a moment before its process has ended
        if process.exitcode is not None:
            how = f"killed by signal {-process.exitcode}" if process.exitcode < 0 else f"exit code {process.exitcode}"
            return f"environment {i} has ended ({how})"
    return "an environment has closed its connection"


def end(envs):
    """End all processes of an AsyncVectorEnv, however they are stuck: ask, and insist after PATIENCE seconds."""
    for process in envs.processes:
        process.terminate()
    for process in envs.processes:
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
    for pipe in envs.parent_pipes:
        pipe.close()
    envs.closed = True                  # nobody is left to be asked

"""Whatever an environment gets wrong: one sentence, exit code 1, an intact checkpoint, and no process left behind."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

import faults
import killer
from dreamer.config import Config
from dreamer.training import checkpoint, workers
from dreamer.training.cli import run_lesson
from dreamer.training.envs import Environments, TaskError, observation_spec
from dreamer.training.evaluate import play
from dreamer.training.guard import check_observation
from dreamer.training.loop import Run
from dreamer.training.records import DivergenceError
from faults import flags, random_only, short

unix = pytest.mark.skipif(os.name == "nt", reason="needs signals")


@pytest.fixture(autouse=True)
def elsewhere(tiny_size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(faults.Faulty, "made", 0)


@pytest.fixture
def fault(monkeypatch):
    """fault(what, at=40): environments made from now on go wrong in that step; fault(None): they are sound again."""
    def set_fault(what, at=40, **others):
        for name, value in {"FAULT": what, "FAULT_AT": at, **others}.items():
            monkeypatch.delenv(name, raising=False) if what is None else monkeypatch.setenv(name, str(value))
    return set_fault


def failure(config, capfd):
    """Train as a command line does; the one line that it prints when it fails, everything on stderr included."""
    assert run_lesson(Config(), None, flags(config)) == 1
    error = capfd.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and len(error) < 400, error
    assert not multiprocessing.active_children()
    return error


def step_of(path):
    """The step of a checkpoint; it is read as a whole."""
    return checkpoint.load(path)["saved_at"]


# ------------------------------------------------------------------ in this process

FAULTS = {
    "raises": "in environment 0, ValueError: the motor is broken (faults.py, line ", "asserts": "AssertionError",
    "raises what no pipe carries": "Unpicklable: ('left', 'right')", "exits": "SystemExit: 3",
    "sees nan": "the observation is not finite at environment step 40: [", "sees infinity": "the observation is not finite",
    "sees less": "the observation has shape (3,), but the environment declares (4,)", "sees more": "has shape (8,)",
    "sees a scalar": "has shape ()", "sees nothing": "has shape ()", "sees words": "is of type <U1, but the environment "
    "declares float32", "sees complex numbers": "is of type complex64", "sees ragged rows": "is a list that is no array",
    "earns nan": "the reward is not finite at environment step 40: nan", "earns infinity": "the reward is not finite",
    "earns too much": "the reward is not finite at environment step 40: 1e+300",
    "earns words": "the reward must be a number, not one (str)", "earns nothing": "the reward must be a number, not None",
    "earns twice": "the reward must be a number, not [", "ends with words": "terminated must be True or False, not no (str)",
    "ends in an array": "truncated must be True or False, not [", "answers as of old": "not enough values to unpack",
    "answers nothing": "TypeError", "resets alone": "too many values to unpack"}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_told_in_one_line_and_the_last_checkpoint_is_whole(what, fault, capfd):
    fault(what)
    error = failure(random_only(output="run"), capfd)
    assert FAULTS[what] in error and ("environment step 4" in error or "environment step 39" in error)
    assert what == "resets alone" or "step 40" in error
    assert 20 <= step_of("run/checkpoint.pt") < 40 and not list(os.scandir("run"))[0].name.endswith(".tmp")


def test_a_run_goes_on_where_an_environment_failed_as_if_it_had_not(fault, capfd):
    Run(short(output="whole")).train()
    fault("raises")
    failure(short(output="run"), capfd)
    fault(None)
    Run(short(output="run"), watchers=[faults.noted]).train()
    assert 20 <= faults.begun_again("run")[0] < 40
    assert killer.results(Path("run")) == killer.results(Path("whole"))


def test_rounding_to_the_declared_precision_is_no_fault(fault, capfd):
    fault("sees doubles")
    assert run_lesson(Config(), None, flags(random_only(output="run"))) == 0 and not capfd.readouterr().err


def test_a_fault_in_an_evaluation_loses_nothing(fault, capfd):
    """The third copy that is made, after the probe and the one to train in, is that of the first evaluation."""
    fault("raises", at=1, FAULT_FROM=3)
    error = failure(random_only(output="run", eval_every=30), capfd)
    assert "the motor is broken" in error and step_of("run/checkpoint.pt") >= 20


def test_a_copy_that_cannot_start_is_named(fault, capfd):
    fault("cannot start", FAULT_FROM=3)
    error = failure(random_only(output="run", envs=2), capfd)
    assert "cannot make the environment" in error and "ConnectionError: port 5005 is taken (faults.py, line" in error


@pytest.mark.parametrize("asynchronous", [False, True])
def test_ctrl_c_in_the_middle_of_a_step_stops_the_run(asynchronous, fault, capfd):
    """Nothing else can stop an environment of this process that hangs; those in others leave it to this one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)       # deaf, where tests run in the background
    try:
        fault("interrupts", at=20 if asynchronous else 40)
        code = run_lesson(Config(), None, flags(random_only(output="run", async_envs=asynchronous, envs=1 + asynchronous)))
    finally:
        signal.signal(signal.SIGINT, before)
    error = capfd.readouterr().err
    assert code == (0 if asynchronous else 130) and "Traceback" not in error
    assert asynchronous or "stopped at step 40" in error and "To go on from the checkpoint of step" in error
    assert step_of("run/checkpoint.pt") >= 20 and not multiprocessing.active_children()


def test_an_environment_that_cannot_be_closed_hides_nothing(monkeypatch, capfd, fault):
    def close(env):
        raise RuntimeError("the door is stuck")
    monkeypatch.setattr(faults.Faulty, "close", close)
    assert run_lesson(Config(), None, flags(random_only(output="run"))) == 0 and os.path.exists("run/summary.json")
    fault("raises")
    assert "the motor is broken" in failure(random_only(output="other"), capfd)


# ------------------------------------------------------------------ in processes of their own

@pytest.mark.parametrize("what, text", [
    ("raises", "in environment 0, ValueError: the motor is broken (faults.py, line "),
    ("raises what no pipe carries", "Unpicklable: ('left', 'right')"), ("exits", "SystemExit: 3"),
    ("sees less", "has shape (3,)"), ("earns nothing", "must be a number, not None"),
    ("sees nan", "the observation is not finite"), ("leaves", "the process of environment 0 has ended (exit code 7)")])
def test_a_fault_in_a_process_is_told_as_in_this_one(what, text, fault, capfd):
    fault(what, at=20)
    error = failure(random_only(output="run", envs=2, async_envs=True), capfd)
    assert text in error and "environment step 40" in error and 20 <= step_of("run/checkpoint.pt") < 40


@unix
def test_a_process_that_is_killed_is_named(fault, capfd):
    fault("dies", at=20)
    error = failure(random_only(output="run", envs=2, async_envs=True), capfd)
    assert "the process of environment 0 has ended (killed by signal 9) at environment step 40" in error or \
        "failed at environment step 40: the process of environment 0 has ended (killed by signal 9)" in error
    assert step_of("run/checkpoint.pt") >= 20


@unix
def test_an_evaluation_gives_up_a_process_that_hangs_too(fault, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    fault("hangs for good", at=5)
    with pytest.raises(TaskError, match="gave no answer to step within 2 seconds"):
        for _ in play(None, "faults:Faulty-v0", 2, 0, asynchronous=True, timeout=2.0):
            pass
    assert not multiprocessing.active_children()


@unix
@pytest.mark.parametrize("what", ["hangs in reset", "hangs for good"])
def test_a_process_that_hangs_is_given_up(what, fault, capfd, monkeypatch):
    """For good: it does not listen when it is asked to end."""
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    fault(what, at=20)
    error = failure(random_only(output="run", envs=2, async_envs=True, env_timeout=4.0), capfd)
    asked = "reset" if "reset" in what else "step"
    assert f"environment 0 gave no answer to {asked} within 4 seconds; --env-timeout allows more" in error
    assert step_of("run/checkpoint.pt") >= 20


def test_copies_that_cannot_start_in_their_processes_are_told(fault, capfd):
    fault("cannot start", FAULT_FROM=3)
    assert run_lesson(Config(), None, flags(random_only(output="run", envs=2, async_envs=True))) == 1
    error = capfd.readouterr().err
    assert "port 5005 is taken" in error and "ended before it had begun" in error and "Traceback" not in error
    assert error.count("\n") <= 3 and not multiprocessing.active_children()


@unix
def test_nobody_is_left_behind_by_a_run_that_is_killed(fault, tmp_path):
    """Also not a process in a step that never returns: it holds a lock for as long as it lives."""
    import fcntl
    fault("hangs", at=10, FAULT_LOCK=tmp_path / "lock")
    config = random_only(output="run", async_envs=True, env_timeout=0.0)
    run = multiprocessing.get_context("fork").Process(target=faults.train, args=(config,))
    run.start()
    wait_for(lambda: (tmp_path / "lock.held").exists())
    with open(tmp_path / "lock") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(run.pid, signal.SIGKILL)
        run.join()

        def free():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True
        wait_for(free)


def wait_for(condition, longest=120):
    end = time.monotonic() + longest
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.05)


# ------------------------------------------------------------------ never an end

def test_episodes_that_never_end_are_evaluated_trained_on_and_saved(monkeypatch):
    monkeypatch.setattr("dreamer.training.evaluate.LONGEST", 20)
    config = random_only(env="toys:ToyEndless-v0", output="run", checkpoint_every=3, eval_every=30)
    run = Run(config)
    steps = []
    run.watchers = (lambda run, event, values: steps.append(run.step) if event == "save" else None,)
    summary = run.train()
    assert steps == [30, 60] and len(summary["final"]["greedy"]) == 1 and summary["steps"] == 60
    assert run_lesson(Config(), None, flags(random_only(**{**vars(config), "steps": 90}))) == 0
    assert step_of("run/checkpoint.pt") == 90


# ------------------------------------------------------------------ the pieces

def test_keys_of_an_observation_are_checked():
    space = Dict({"eye": Box(0, 1, (2,)), "card": Discrete(3)})
    check_observation(space, {"eye": [0.5, 1], "card": 2, "more": None})
    for obs, text in (({"eye": [0, 1]}, "observation 'card' is missing"), ([0, 1], "'card' is missing"),
                      ({"eye": [0, 1], "card": 1.5}, "observation 'card' is of type float64, but")):
        with pytest.raises(TaskError, match=text):
            check_observation(space, obs)


def test_more_classes_than_the_replay_buffer_can_hold_are_refused():
    assert observation_spec(Discrete(2 ** 15)).symbols == (2 ** 15,)
    with pytest.raises(TaskError, match="a symbol of 32769 classes; supported are 32768"):
        observation_spec(Discrete(2 ** 15 + 1))


def test_an_action_that_is_no_number_is_never_played():
    envs = Environments("toys:ToyContinuous-v0", 1, 0)
    envs.reset()
    with pytest.raises(DivergenceError, match="the agent's action is not finite at environment step 1; a smaller --lr"):
        envs.step(np.array([[np.nan, 0.0]]))


def test_what_has_diverged_never_replaces_a_sound_checkpoint(monkeypatch):
    """A loss that is not finite is noticed before it is saved, not only when its line is written."""
    run = Run(short(output="run", log_every=1000))
    add = run.records.add
    run.records.add = lambda metrics: add({**metrics, **({"loss_rec": float("nan")} if run.step > 50 else {})})
    with pytest.raises(DivergenceError, match="loss_rec is nan"):
        run.train()
    assert 20 <= step_of("run/checkpoint.pt") <= 51


def test_environments_that_differ_from_each_other_are_refused(monkeypatch):
    spaces = iter([Box(-1, 1, (4,)), Box(-1, 1, (4,)), Box(-1, 1, (5,))])
    gym.register("Various-v0", lambda: toys_odd(next(spaces)), disable_env_checker=True)
    with pytest.raises(TaskError, match="cannot make 2 environments 'Various-v0': RuntimeError"):
        Environments("Various-v0", 2, 0)


def toys_odd(space):
    import toys
    return toys.Odd(observation=space)

"""SIGKILL at random moments, again and again: no environment step is lost, none is trained on twice."""

import itertools
import json
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
import torch

import faults
import toys
from dreamer.training import checkpoint
from faults import short

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be killed by SIGKILL")
TIMES = ("seconds", "updates_per_second")


def start(function, *arguments):
    """A process that does this. It begins with torch and Gymnasium imported, in a tenth of a second."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["torch", "gymnasium.vector", "gymnasium.wrappers", "tqdm", "faults"])
    process = processes.Process(target=function, args=arguments)
    process.start()
    return process


def whole(config):
    """Train without a kill, in such a process. Returns the seconds it took."""
    start(int).join()               # the imports, which only the first one waits for, are not counted
    began, process = time.monotonic(), start(faults.train, config)
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began


def killed_again_and_again(config_in, kills, seconds, folders, draw):
    """Start runs and kill each after up to 0.7 x `seconds`, which a whole one takes, until `kills` have died.

    A killed one is started again in its folder. One that is done before it can be killed is left, for a fresh
    one in the next of `folders`. Yields the folder of every run that was killed, when it is done.
    """
    folder, deaths = next(folders), 0
    while kills:
        process = start(faults.train, config_in(folder))
        process.join(draw.uniform(0, 0.7 * seconds))
        process.kill()                  # does nothing to one that is done, even if it ends at this very moment
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if process.exitcode:
            kills, deaths = kills - 1, deaths + 1
        elif deaths:
            yield folder
            folder, deaths = next(folders), 0
        else:
            folder = next(folders)
    whole(config_in(folder))
    yield folder


def assert_same(one, other, name="checkpoint"):
    """Equal to the last bit: tensors, numbers, and what they stand in. Clocks and folders may differ."""
    assert type(one) is type(other), name
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), name
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), name
        for key in one.keys() - {"seconds", "log_size", "output"}:
            assert_same(one[key], other[key], f"{name}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), name
        for i, (a, b) in enumerate(zip(one, other)):
            assert_same(a, b, f"{name}[{i}]")
    else:
        assert one == other, name


def lines(folder):
    """Every line of metrics.jsonl, but for its times."""
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES}
            for line in (folder / "metrics.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------ one environment: exactly the same

def one_environment(kills, tmp_path, seed):
    """Runs killed at random moments end with the last bit of a run that was not."""
    config_in = lambda folder: short(output=str(folder), steps=100)         # noqa: E731
    seconds = whole(config_in(tmp_path / "whole"))
    reference = checkpoint.load(tmp_path / "whole" / "checkpoint.pt")
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    folders = (tmp_path / str(n) for n in itertools.count())
    for folder in killed_again_and_again(config_in, kills, seconds, folders, random.Random(seed)):
        faults.begun_again(folder)
        assert_same(checkpoint.load(folder / "checkpoint.pt"), reference)
        assert lines(folder) == lines(tmp_path / "whole") and not list(folder.glob("*.tmp"))
        ended = json.loads((folder / "summary.json").read_text())
        assert all(ended[k] == summary[k] for k in ("steps", "updates", "evaluations", "final"))


def test_one_environment_and_three_kills(tmp_path):
    one_environment(3, tmp_path, seed=0)


@pytest.mark.slow
def test_one_environment_and_fifty_kills(tmp_path):
    one_environment(50, tmp_path, seed=1)


# ------------------------------------------------------------------ several: every step once

STEPS, LOG, EVALUATE, PREFILL = 120, 7, 20, 24


def several(folder, **changes):
    return short(**{"output": str(folder), "envs": 2, "steps": STEPS, "prefill": PREFILL, "capacity": 600, "log_every": LOG,
                    "eval_every": EVALUATE, "checkpoint_every": 9, "eval_episodes": 1, **changes})


def episode(number, seed):
    """Name, length, and whether it terminates: what the environment draws for an episode of this number."""
    toy = toys.Counter()
    toy.reset(seed=int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
    return toy.name, toy.length, toy.terminates


def reached(interval, count):
    """The steps at which something happens that is due every `interval` steps, with `count` environments."""
    return [step for step in range(count, STEPS + 1, count) if step // interval > (step - count) // interval]


def check_counters(folder, saved, config):
    """Steps, updates, lines and evaluations: each once, at its step."""
    summary = json.loads((folder / "summary.json").read_text())
    earned = 1 + int((STEPS - saved["began"]) * config.train_ratio / (config.batch_size * config.batch_length))
    assert saved["collector"]["steps"] == saved["saved_at"] == summary["steps"] == STEPS
    assert saved["updates"] == summary["updates"] == earned
    assert [line["step"] for line in lines(folder)] == reached(LOG, config.envs)
    assert [e["step"] for e in summary["evaluations"]] == reached(EVALUATE, config.envs)


def check_rows(saved, config):
    """Every step is one row with an action, every episode was begun once, and its rows are complete and in order.

    An episode that a kill has interrupted is cut: its last row has an action, whose outcome nobody knows.
    """
    rows, begun = saved["replay"]["rows"], []
    for ring, count in enumerate(saved["replay"]["count"].tolist()):
        obs, action = rows["obs_vector"][ring, :count], rows["action"][ring, :count]
        first, last, terminal = (rows[f"is_{k}"][ring, :count] for k in ("first", "last", "terminal"))
        assert int(action.any(-1).sum()) == STEPS // config.envs                    # none lost, none doubled
        assert torch.equal(first[1:], last[:-1]) and first[0]
        for t in range(count):
            name, time_, arrived_by, _ = obs[t].tolist()
            if first[t]:
                begun.append(name)
                assert time_ == 0 and rows["reward"][ring, t] == 0
            else:
                assert name == obs[t - 1, 0] and time_ == obs[t - 1, 1] + 1 and arrived_by == action[t - 1].argmax()
                assert rows["reward"][ring, t] == 10 * time_ + arrived_by
            assert last[t] or action[t].any()
            assert not terminal[t] or last[t] and not action[t].any()
    numbers = range(saved["collector"]["episodes"])
    assert sorted(begun) == sorted(episode(n, config.seed)[0] for n in numbers)     # each episode once, none left out


def several_environments(kills, tmp_path, seed, **changes):
    config_in = lambda folder: several(folder, **changes)                   # noqa: E731
    seconds = whole(config_in(tmp_path / "whole"))
    folders = (tmp_path / str(n) for n in itertools.count())
    for folder in itertools.chain([tmp_path / "whole"],
                                  killed_again_and_again(config_in, kills, seconds, folders, random.Random(seed))):
        faults.begun_again(folder)
        saved, config = checkpoint.load(folder / "checkpoint.pt"), config_in(folder)
        check_counters(folder, saved, config)
        check_rows(saved, config)


def test_several_environments_and_three_kills(tmp_path):
    several_environments(3, tmp_path, seed=0)


@pytest.mark.slow
def test_several_environments_and_fifty_kills(tmp_path):
    several_environments(50, tmp_path, seed=1)


@pytest.mark.slow
def test_environments_in_processes_and_twenty_kills(tmp_path):
    several_environments(20, tmp_path, seed=2, async_envs=True)

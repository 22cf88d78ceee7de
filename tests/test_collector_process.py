"""--collector process: the same rows, counts and ratio as inline, from a process that may die without losing any."""

import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import pytest
import torch

import telling
from dreamer.config import Config
from dreamer.distributions import Mode
from dreamer.learner import Learner
from dreamer.tools import collector_process
from dreamer.tools.collector_process import BEHIND, LONGEST, longest_stretch
from dreamer.tools.collector_worker import acting_tensors, receive_weights, send_weights
from dreamer.training import checkpoint
from dreamer.training.cli import run_lesson
from dreamer.training.collect import CollectorError
from dreamer.training.envs import Environments, TaskError
from dreamer.training.loop import Run
from dreamer.world_model.encoder import ObservationSpec
from toys import tiny

SCRIPT = Path(__file__).parent.parent / "02_dreamer_cartpole.py"
unix = pytest.mark.skipif(os.name == "nt", reason="needs signals")


@pytest.fixture(autouse=True)
def elsewhere(tiny_size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    telling.register(tmp_path)
    yield
    del gym.registry["Local-v0"]


@pytest.fixture(scope="module", autouse=True)
def start_quickly():
    """A fresh process that has torch already. The script that is interrupted below starts its own as users do."""
    if os.name == "nt":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["dreamer.tools.collector_worker", "tqdm"])
        patch.setattr(collector_process, "SPAWN", context)
        yield


def process_run(**changes):
    return Run(tiny(**{"collector": "process", "capacity": 600, "eval_every": 1000, "final_episodes": 1, **changes}))


def stream(run, ring=0):
    """The rows of one environment as a list of dicts, oldest first (the ring must not have wrapped)."""
    count = int(run.replay.count[ring])
    assert count <= run.replay.length
    return [{k: v[ring, i] for k, v in run.replay.rows.items()} for i in range(count)]


def lines(run):
    times = ("seconds", "updates_per_second")
    text = (run.folder / "metrics.jsonl").read_text()
    return [{k: v for k, v in json.loads(line).items() if k not in times} for line in text.splitlines()]


def told_pids(tmp_path):
    """Processes in which a Tells was made, without this one."""
    return {int(pid) for pid in (tmp_path / "pids").read_text().split()} - {os.getpid()}


def gone(pids, patience=120):
    """Wait until none of the processes lives."""
    def lives(pid):
        stat = Path(f"/proc/{pid}/stat")
        if stat.parent.parent.joinpath("self").exists():        # Linux: a process nobody has waited for yet is dead, too
            return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
        return subprocess.run(["ps", "-p", str(pid)], capture_output=True).returncode == 0
    end = time.monotonic() + patience
    while any(map(lives, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(lives, pids))


# ------------------------------------------------------------------ rows, counts, ratio

def check_rows(run):
    """Counter tells in each observation the action just taken, and rewards 10 t + that action. Returns all rows."""
    every, names = [], []
    for ring in range(run.envs.count):
        rows = stream(run, ring)
        every += rows
        for before, row in zip([None, *rows], rows):
            name, at, action, terminates = row["obs_vector"].tolist()
            if before is None or before["is_last"]:
                assert row["is_first"] and at == 0 and action == -1 and row["reward"] == 0
                names.append(name)
            else:
                assert not row["is_first"] and before["obs_vector"][0] == name
                assert at == before["obs_vector"][1] + 1 and action == before["action"].argmax()
                assert row["reward"] == 10 * at + action
            if row["is_last"] and not row["action"].any():          # an episode that ended by itself
                assert bool(row["is_terminal"]) == bool(terminates)
            else:
                assert not row["is_terminal"]
    assert len(set(names)) == len(names)                            # no episode was met twice
    return every


@pytest.mark.parametrize("envs, ratio", [(1, 5.0), (3, 10.0), (3, 200.0)])
def test_rows_counts_and_train_ratio_are_those_of_the_loop(envs, ratio):
    run = process_run(envs=envs, train_ratio=ratio, log_every=1, steps=66)
    summary = run.train()
    rows, acted = check_rows(run), run.config.steps
    assert summary["steps"] == run.step == acted == sum(bool(row["action"].any()) for row in rows)
    assert len(rows) == acted + sum(bool(row["is_last"]) for row in rows)
    for line in lines(run):
        since = line["step"] - run.began
        assert line["updates"] == (1 + int(since * ratio / 32) if since >= 0 else 0)
    assert lines(run)[-1]["episodes"] == sum(bool(row["is_first"]) for row in rows) + sum(
        bool(stream(run, ring)[-1]["is_last"]) for ring in range(envs))
    assert (0 < run.collector.oldest <= BEHIND) == (ratio < 100)    # where a step earns 18 updates, nobody plays ahead
    assert run.collector.oldest <= BEHIND


def test_the_prefill_is_that_of_the_loop_and_a_seed_gives_the_same_run_again():
    inline, one, two = process_run(collector="inline", output="a"), process_run(output="b"), process_run(output="c")
    for run in (inline, one, two):
        run.train()
    assert lines(one) == lines(two) and one.learner.updates > 1
    for key in ("obs_vector", "action", "reward", "is_first", "is_last", "is_terminal"):
        rows = inline.replay.rows[key][0, :24], one.replay.rows[key][0, :24]
        assert torch.equal(*rows)
        assert torch.equal(one.replay.rows[key][0, :80], two.replay.rows[key][0, :80])


@pytest.mark.parametrize("earned", [0.001, 0.375, 0.5, 3.0, 5.9, 15.0, 16.0, 1000.0])
def test_a_stretch_is_as_long_as_the_age_of_the_weights_allows(earned):
    """Simulated: orders, and the updates that the loop would have made before each step is stored."""
    length, stretches, worst = longest_stretch(earned), 40, 0
    for phase in (0.0, 0.3, 0.99):
        def made(step):
            return int(phase + step * earned)
        for i in range(stretches):
            ordered = made((i - 1) * length) if length and i else made(i * max(length, 1))
            last = i * max(length, 1) + max(length, 1) - 1
            worst = max(worst, made(last) - ordered)
    assert worst <= BEHIND and length <= LONGEST
    assert length == LONGEST or 1 + (2 * (length + 1) - 1) * earned > BEHIND       # one step more would be too many


# ------------------------------------------------------------------ weights

def first_memory(learner):
    """h of the averaged agent at the first step of any episode, as replay stores it: it tells the weights. (D,)"""
    obs, first = {"vector": torch.zeros(1, 4)}, torch.ones(1, dtype=torch.bool)
    _, (deter, _) = learner.average.act(obs, learner.average.world_model.rssm.initial(1), torch.zeros(1, 3), first, Mode())
    return deter[0].half()


def test_the_collector_acts_with_the_weights_it_is_sent_and_never_with_older_ones(monkeypatch):
    run = process_run(train_ratio=24.0, lr=0.05, warmup=0, average_rate=1.0, steps=120)
    update, add, memories, seen = Learner.update, run.replay.add, [], []

    def remembered(learner, *arguments):
        if not memories:
            memories.append(first_memory(learner))
        result = update(learner, *arguments)
        memories.append(first_memory(learner))
        return result

    def watched(row, streams):
        if row["is_first"][0] and run.step >= 24:
            seen.append((torch.as_tensor(row["deter"][0]), run.learner.updates))
        add(row, streams)
    monkeypatch.setattr(Learner, "update", remembered)
    monkeypatch.setattr(run.replay, "add", watched)
    run.train()
    ages = []
    for deter, updates in seen[2:]:             # the first two episodes may have begun before training
        version = next(i for i, memory in enumerate(memories) if torch.equal(memory, deter))
        ages.append(updates - version)
    assert len(ages) > 10 and len(set(ages)) > 3
    assert 0 <= min(ages) and BEHIND // 2 < max(ages) <= run.collector.oldest <= BEHIND


def test_weights_and_the_scale_of_observations_arrive():
    config = tiny()
    mine, theirs = (Learner(ObservationSpec(vector=4, symbols=(3,)), 2, True, tiny(seed=seed)).average for seed in (0, 1))
    mine.world_model.standardize.load_state_dict({"mean": torch.randn(4), "std": 1 + torch.rand(4)})
    here, there = multiprocessing.Pipe()
    sender = threading.Thread(target=send_weights, args=(here, mine))
    sender.start()
    receive_weights(there, theirs)
    sender.join()
    assert all(torch.equal(a, b) for a, b in zip(acting_tensors(mine), acting_tensors(theirs), strict=True))
    obs, first = {"vector": torch.randn(5, 4), "symbols": torch.randint(3, (5, 1))}, torch.zeros(5, dtype=torch.bool)
    state = torch.randn(5, 64), torch.eye(4)[torch.randint(4, (5, config.stoch))]
    (a, (b, _)), (c, (d, _)) = (agent.act(obs, state, torch.zeros(5, 2), first, Mode()) for agent in (mine, theirs))
    assert torch.equal(a, c) and torch.equal(b, d)


def test_the_agent_first_acts_when_observations_are_measured_and_one_update_is_made(monkeypatch):
    sent = []

    def recorded(pipe, agent):
        sent.append((agent.world_model.standardize.std.clone(), run.learner.updates))
        send_weights(pipe, agent)
    monkeypatch.setattr(collector_process, "send_weights", recorded)
    run = process_run(prefill=60, steps=70)
    run.train()
    std, updates = sent[0]
    assert run.began == 60 and updates == 1 and not torch.equal(std, torch.ones(4))
    assert torch.equal(std, run.learner.average.world_model.standardize.std)


# ------------------------------------------------------------------ death

@unix
def test_a_killed_collector_is_reported_and_what_it_had_sent_is_kept(tmp_path):
    telling.register(tmp_path, length=1000)
    run = process_run(env="Local-v0", output="here", steps=120, checkpoint_every=1000)
    store = run.collector.step

    def step(random):
        if run.step == 50:
            os.kill(run.envs.process.pid, signal.SIGKILL)
        store(random)
    run.collector.step = step
    with pytest.raises(CollectorError, match="was killed by signal 9 after environment step") as caught:
        run.train()
    assert "\n" not in str(caught.value) and gone(told_pids(tmp_path))
    kept = check_rows(run)
    saved = checkpoint.load(run.checkpoint)
    assert 50 <= run.step < 120 and saved["saved_at"] == run.step == sum(bool(row["action"].any()) for row in kept)
    again = process_run(env="Local-v0", output="here", steps=120, checkpoint_every=1000)
    assert again.train()["steps"] == 120
    rows = check_rows(again)                    # the episode in progress was cut, and no other met twice
    assert sum(bool(row["action"].any()) for row in rows) == 120
    for old, new in zip(kept, rows):
        assert torch.equal(old["obs_vector"], new["obs_vector"]) and torch.equal(old["action"], new["action"])
    assert not kept[-1]["is_last"] and rows[len(kept) - 1]["is_last"] and not rows[len(kept) - 1]["is_terminal"]
    assert sum(bool(row["is_first"]) for row in rows) == 2


def test_an_environment_that_fails_is_reported_by_its_own_error_and_can_be_resumed(tmp_path, capsys):
    flags = shlex.split("--env Local-v0 --output here --steps 60 --prefill 20 --batch-size 2 --batch-length 8 --starts 4 "
                        "--imagination-horizon 2 --stoch 4 --train-ratio 4 --eval-episodes 1 --final-episodes 1 --device cpu "
                        "--collector process")
    Path("broken").touch()
    assert run_lesson(Config(), None, flags) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and "ValueError: the motor is broken" in err
    assert gone(told_pids(tmp_path)) and checkpoint.load("here/checkpoint.pt")["saved_at"] == 40
    Path("broken").unlink()
    assert run_lesson(Config(), None, flags) == 0
    assert json.loads(Path("here/summary.json").read_text())["steps"] == 60


@pytest.mark.parametrize("env", ["CartPol-v1", "toys:ToyWrongSymbol-v0"])
def test_a_task_that_cannot_be_used_is_refused_as_without_a_process(env):
    def refusal(collector):
        with pytest.raises(TaskError) as caught:
            process_run(env=env, collector=collector).train()
        return str(caught.value)
    assert refusal("process") == refusal("inline")


@unix
def test_a_killed_trainer_leaves_no_process_and_resumes_without_a_lost_or_doubled_row(tmp_path):
    config = tiny(env="Local-v0", collector="process", async_envs=True, envs=2, capacity=600, steps=110, checkpoint_every=30, output="here",
                  eval_every=1000, final_episodes=1)
    process = multiprocessing.get_context("forkserver").Process(target=telling.train_and_be_killed, args=(config, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and gone(told_pids(tmp_path))
    saved = checkpoint.load("here/checkpoint.pt")
    resumed = Run(config)
    assert resumed.train()["steps"] == 110 and gone(told_pids(tmp_path))
    check_rows(resumed)
    assert saved["saved_at"] == 60
    for ring, count in enumerate(saved["replay"]["count"].tolist()):
        for key in ("obs_vector", "action", "reward", "is_first", "is_terminal"):
            assert torch.equal(resumed.replay.rows[key][ring, :count], saved["replay"]["rows"][key][ring, :count])
        assert resumed.replay.rows["is_last"][ring, count - 1] and resumed.replay.rows["is_first"][ring, count]


@unix
def test_ctrl_c_ends_both_processes_and_the_same_command_goes_on(tmp_path):
    small = shlex.split("--env telling:Tells-v0 --prefill 20 --batch-size 2 --batch-length 8 --starts 4 --imagination-horizon 2 --stoch 4 "
                        "--train-ratio 4 --eval-every 100000 --final-episodes 1 --checkpoint-every 10 --log-every 1 --device cpu")
    command = [sys.executable, str(SCRIPT), *small, "--collector", "process", "--output", "here"]
    surroundings = {**os.environ, "TELLS": str(tmp_path), "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(SCRIPT.parent)])}
    hear = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)         # noqa: E731  deaf, if the tests run in the background
    process = subprocess.Popen([*command, "--steps", "100000"], env=surroundings, stderr=subprocess.PIPE, text=True,
                               start_new_session=True, preexec_fn=hear)
    log = Path("here/metrics.jsonl")
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 40):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)                               # as a terminal does: both hear it
    err = process.communicate()[1]
    assert process.returncode == 130 and "To go on from the checkpoint" in err and "Traceback" not in err
    assert gone(told_pids(tmp_path))
    saved = checkpoint.load("here/checkpoint.pt")["saved_at"]
    done = subprocess.run([*command, "--steps", str(saved + 20)], env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr and json.loads(Path("here/summary.json").read_text())["steps"] == saved + 20

"""A run may be stopped at any moment; a checkpoint is whole, safe, and refused if it does not fit."""

import errno
import hashlib
import multiprocessing
import os
import pickle
import random
import shutil
import signal
from pathlib import Path

import pytest
import torch

import killer
from dreamer.config import SIZES
from dreamer.training import checkpoint
from dreamer.training.checkpoint import MAGIC, START, CheckpointError, Digester
from dreamer.training.loop import Run
from dreamer.training.validate import ConfigError
from toys import TINY, tiny

pytestmark = pytest.mark.usefixtures("tiny_size")


def short(**changes):
    """A run of half a second whose ring of rows wraps, with four checkpoints on the way."""
    return tiny(**{"capacity": 60, "steps": 64, "train_ratio": 8.0, "eval_every": 30, "eval_episodes": 1,
                   "final_episodes": 2, **changes})


def run_killed(place, count, config):
    """Start the run in a process of its own and see it killed."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["torch", "gymnasium.vector", "gymnasium.wrappers", "tqdm"])      # slow imports, once
    process = processes.Process(target=killer.killed_at, args=(place, count, config))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def held_rows(run):
    """All rows and counters of the replay buffer, and what else must survive."""
    state = run.replay.state_dict()
    return {**state["rows"], "count": state["count"], "generator": state["generator"]}, state["fresh"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The run that nobody stops."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "1m", TINY)
        run = Run(short(output=str(tmp_path_factory.mktemp("whole"))))
        run.train()
    return run


@pytest.fixture
def trained(uninterrupted, tmp_path):
    """A folder with the checkpoint of a finished run."""
    shutil.copy(uninterrupted.checkpoint, tmp_path / "checkpoint.pt")
    return tmp_path / "checkpoint.pt"


MOMENTS = [
    ("dreamer.training.envs.Environments.step", 7),             # in the prefill, before any checkpoint
    ("dreamer.training.envs.Environments.step", 21),            # in the prefill, after one
    ("dreamer.training.collect.Collector.store", 46),           # before a row is stored
    ("dreamer.learner.Learner.update", 1),
    ("dreamer.learner.Learner.update", 7),
    ("dreamer.training.replay.Replay.write_back", 5),           # updated, but the latents are not yet stored
    ("dreamer.training.checkpoint.Digester.write", 3),          # in the first checkpoint
    ("dreamer.training.checkpoint.Digester.write", 4000),       # in the third
    ("os.replace", 3),                                          # written, but not yet in its place
    ("dreamer.training.records.Records.write", 7),              # half a line of metrics.jsonl is there
    ("dreamer.training.loop.evaluate", 4),                      # greedy is done, sampled is not
    ("dreamer.training.loop.evaluate", 6),                      # in the evaluation of the final agent
    ("dreamer.training.loop.write_summary", 1),
]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be killed by SIGKILL")
@pytest.mark.parametrize("place, count", MOMENTS, ids=[f"{p.rpartition('.')[2]}-{n}" for p, n in MOMENTS])
def test_a_run_killed_at_any_moment_ends_as_if_it_had_not_been(place, count, uninterrupted, tmp_path):
    config = short(output=str(tmp_path))
    run_killed(place, count, config)
    assert not (tmp_path / "summary.json").exists()
    resumed = Run(config)
    resumed.train()
    assert killer.results(tmp_path) == killer.results(uninterrupted.folder)
    (rows, fresh), (wanted_rows, wanted_fresh) = held_rows(resumed), held_rows(uninterrupted)
    assert fresh == wanted_fresh and all(torch.equal(rows[k], wanted_rows[k]) for k in wanted_rows)
    assert resumed.envs.episodes == uninterrupted.envs.episodes
    assert not list(tmp_path.glob("*.tmp"))


def test_a_random_action_is_still_held_after_a_kill_in_the_prefill(tmp_path):
    """Continuous actions: no action is the same as another one by chance."""
    options = dict(env="toys:ToyContinuous-v0", hold=20.0, prefill=40, steps=40, eval_every=1000)
    whole, killed = Run(short(**options, output=str(tmp_path / "a"))), short(**options, output=str(tmp_path / "b"))
    whole.train()
    run_killed("dreamer.training.envs.Environments.step", 33, killed)
    resumed = Run(killed)
    resumed.train()
    assert torch.equal(held_rows(resumed)[0]["action"], held_rows(whole)[0]["action"])


def test_a_run_may_be_killed_again_and_again(uninterrupted, tmp_path):
    config = short(output=str(tmp_path))
    for _ in range(3):
        run_killed("dreamer.training.envs.Environments.step", 18, config)
    assert Run(config).train() and killer.results(tmp_path) == killer.results(uninterrupted.folder)


def test_with_several_environments_unfinished_episodes_are_cut_and_nothing_stored_is_lost(tmp_path):
    config = short(envs=3, capacity=600, steps=120, output=str(tmp_path), checkpoint_every=30)
    run_killed("dreamer.training.envs.Environments.step", 33, config)
    saved = checkpoint.load(tmp_path / "checkpoint.pt")["replay"]
    run = Run(config)
    summary = run.train()
    assert summary["steps"] == 120 and len(killer.results(tmp_path)[0]) == 17
    cut = 0
    for ring, count in enumerate(saved["count"].tolist()):
        rows = {k: v[ring] for k, v in run.replay.rows.items()}
        assert torch.equal(rows["obs_vector"][:count], saved["rows"]["obs_vector"][ring, :count])
        assert torch.equal(rows["action"][:count], saved["rows"]["action"][ring, :count])
        last = saved["rows"]["is_last"][ring, :count].clone()
        cut += int(not last[-1])
        last[-1] = True                                         # where an episode was in progress
        assert torch.equal(rows["is_last"][:count], last)
        assert torch.equal(rows["is_terminal"][:count], saved["rows"]["is_terminal"][ring, :count])
        assert rows["is_first"][count] and rows["obs_vector"][count, 1] == 0 and rows["reward"][count] == 0
    assert cut
    names = [row[0].item() for ring in range(3) for row, first in
             zip(run.replay.rows["obs_vector"][ring], run.replay.rows["is_first"][ring, :run.replay.count[ring]]) if first]
    assert len(set(names)) == len(names)                        # no episode was met twice


def test_an_endless_episode_is_truncated_for_a_checkpoint(tmp_path):
    run = Run(short(env="toys:ToyEndless-v0", capacity=200, output=str(tmp_path), steps=75, checkpoint_every=3))
    run.evaluate = run.finish = lambda: None        # an evaluation would take long
    run.train()
    count = int(run.replay.count[0])
    last = run.replay.rows["is_last"][0, :count]
    assert last.nonzero().flatten().tolist() == [30, 61] and count == 77         # every 10 intervals of 3 steps
    assert not run.replay.rows["is_terminal"][0, :count].any()
    assert run.replay.rows["obs_vector"][0, [30, 61], 1].tolist() == [30, 30]    # the last observation is kept
    assert run.replay.rows["is_first"][0, [0, 31, 62]].all()


def test_more_steps_continue_a_finished_run(uninterrupted, trained):
    more = Run(short(output=str(trained.parent), steps=80, eval_every=10_000))
    summary = more.train()
    assert summary["steps"] == 80 and summary["evaluations"] == uninterrupted.evaluations
    assert summary["updates"] == 1 + (80 - more.began) * 8 // 32


def test_no_resume_begins_anew(uninterrupted, trained):
    again = Run(short(output=str(trained.parent), resume=False))
    again.train()
    assert killer.results(trained.parent) == killer.results(uninterrupted.folder)


# ------------------------------------------------------------------ writing

def full_disk(monkeypatch, after):
    """From the `after`-th chunk on, writing a checkpoint fails as on a full disk."""
    original, calls = Digester.write, 0

    def write(digester, data):
        nonlocal calls
        calls += 1
        if calls > after:
            original(digester, data[:len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(digester, data)
    monkeypatch.setattr(Digester, "write", write)


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_full_disk_leaves_the_previous_checkpoint(after, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"number": 1, "tensor": torch.arange(1000)})
    before = path.read_bytes()
    full_disk(monkeypatch, after)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"number": 2, "tensor": torch.arange(9000)})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["checkpoint.pt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_device_that_is_full_leaves_the_previous_checkpoint(size, tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"number": 1})
    (tmp_path / "checkpoint.pt.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"tensor": torch.arange(size)})
    assert checkpoint.load(path) == {"number": 1} and os.listdir(tmp_path) == ["checkpoint.pt"]


def test_a_run_stopped_by_a_full_disk_can_go_on(uninterrupted, tmp_path, monkeypatch):
    config = short(output=str(tmp_path))
    with monkeypatch.context() as patch:
        full_disk(patch, 2000)
        with pytest.raises(OSError, match="No space left"):
            Run(config).train()
    assert checkpoint.load(tmp_path / "checkpoint.pt")["saved_at"] > 0
    Run(config).train()
    assert killer.results(tmp_path) == killer.results(uninterrupted.folder)


def test_leftovers_of_a_kill_are_removed_at_the_start(tmp_path):
    for name in ("checkpoint.pt.tmp", "summary.json.tmp", "mine.tmp"):
        (tmp_path / name).write_text("half")
    Run(tiny(output=str(tmp_path)))
    assert [p.name for p in tmp_path.glob("*.tmp")] == ["mine.tmp"]     # what is not ours is left alone


# ------------------------------------------------------------------ reading

def refusal(path):
    """The one sentence with which a checkpoint is refused."""
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and len(text) < 300 + len(str(path))
    return text


def test_any_flipped_byte_is_noticed(trained):
    data = trained.read_bytes()
    draw = random.Random(0)
    for place in [*range(START + 4), *(draw.randrange(len(data)) for _ in range(150)), len(data) - 1]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << draw.randrange(8)
        trained.write_bytes(damaged)
        assert "is damaged" in refusal(trained)


def test_a_truncated_checkpoint_is_refused(trained):
    data = trained.read_bytes()
    for length in (0, 1, len(MAGIC), START - 1, START, START + 1, len(data) // 2, len(data) - 1):
        trained.write_bytes(data[:length])
        assert "is damaged" in refusal(trained)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert "there is no checkpoint" in refusal(path)
    path.mkdir()
    assert "cannot be read" in refusal(path)
    path.rmdir()
    path.write_text("hello")
    assert "no checkpoint of this course" in refusal(path)
    torch.save({"agent": 1}, path)
    assert "no checkpoint of this course" in refusal(path)


class Exploit:
    """Pickled, this creates a file when it is loaded carelessly."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("how", ["torch", "pickle", "bare"])
def test_code_in_a_checkpoint_is_never_run(how, tmp_path):
    path, target = tmp_path / "checkpoint.pt", tmp_path / "executed"
    if how == "torch":
        checkpoint.save(path, {"agent": Exploit(target)})       # checksum and format are right
    else:
        payload = pickle.dumps(Exploit(target))
        head = MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n"
        path.write_bytes(payload if how == "bare" else head + payload)
    assert "no checkpoint" in refusal(path)
    assert not target.exists()
    if how == "torch":
        with open(path, "rb") as file:                          # the exploit does work on a careless reader
            file.seek(START)
            torch.load(file, weights_only=False)
        assert target.exists()


@pytest.mark.parametrize("changes, text", [
    ({"env": "toys:ToySymbols-v0"}, "env=toys:ToyCounter-v0, not toys:ToySymbols-v0"),
    ({"size": "12m"}, "size=1m, not 12m; use --size 1m or another --output"),
    ({"lr": 0.5}, "lr=0.001, not 0.5"), ({"entropy": 1.0}, "--entropy 0.01"), ({"standardize": False}, "--standardize or"),
    ({"train_ratio": 16.0}, "--train-ratio 8.0"), ({"seed": 3}, "--seed 0"), ({"batch_length": 7}, "--batch-length 8"), ({"capacity": 61}, "--capacity 60")])
def test_a_checkpoint_of_another_run_is_refused(changes, text, trained):
    with pytest.raises(CheckpointError, match="was trained with") as caught:
        Run(short(**{"output": str(trained.parent), **changes})).train()
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_going_on_with_another_plan_is_said(trained, capsys, monkeypatch):
    """Learning rate and entropy bonus fall over the planned steps: with another plan, longer or shorter, finished or not, they jump."""
    monkeypatch.delenv("DREAMER_QUIET", raising=False)
    state = checkpoint.load(trained)
    steps = state["config"]["steps"]
    for planned, wanted, said in ((steps, steps, 0), (steps, steps + 20, 1), (steps + 100, steps, 1), (steps + 100, steps + 20, 1)):
        checkpoint.save(trained, {**state, "config": {**state["config"], "steps": planned}})
        Run(short(output=str(trained.parent), steps=wanted)).train()
        assert "".join(capsys.readouterr()).count(f"planned with {planned} steps, not {wanted}: learning rate and entropy bonus") == said
    for ends in ({"lr_end": 1.0}, {"entropy_end": 1.0}, {"lr_end": 1.0, "entropy_end": 1.0}):       # what does not fall does not jump
        checkpoint.save(trained, {**state, "config": {**state["config"], **ends, "steps": steps + 100}})
        Run(short(output=str(trained.parent), **ends)).train()
        assert ("planned with" in "".join(capsys.readouterr())) == (len(ends) == 1)


def test_a_checkpoint_of_another_version_is_refused(trained):
    state = checkpoint.load(trained)
    for damaged in ({k: v for k, v in state.items() if k != "collector"}, [1, 2], {**state, "agent": {}},
                    {**state, "config": {k: v for k, v in state["config"].items() if k != "hold"}},
                    {**state, "replay": {**state["replay"], "rows": {}, "count": torch.zeros(7)}}):
        checkpoint.save(trained, damaged)
        with pytest.raises(CheckpointError, match="another version of the course"):
            Run(short(output=str(trained.parent))).train()


# ------------------------------------------------------------------ another machine, another start

def test_a_checkpoint_of_another_kind_of_device_is_taken_up_with_random_numbers_of_its_own(trained, monkeypatch):
    """The state of CUDA's generator is 16 bytes, that of the CPU's 5056: neither can be put into the other."""
    monkeypatch.delenv("DREAMER_QUIET", raising=False)
    state = checkpoint.load(trained)
    ends, said = [], []
    for changes in ({}, {}, {"updates": state["updates"] - 1}):
        checkpoint.save(trained, {**state, **changes, "draw": torch.zeros(16, dtype=torch.uint8)})
        run = Run(short(output=str(trained.parent)))
        run.records.say = said.append
        run.load()
        ends.append(torch.rand(3, generator=run.learner.draw.generator))
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])
    assert "another kind of device than cpu: other random numbers" in said[0]
    said.clear()
    checkpoint.save(trained, state)
    run = Run(short(output=str(trained.parent)))
    run.records.say = said.append
    run.load()
    assert torch.equal(run.learner.draw.generator.get_state(), state["draw"]) and len(said) == 1


def test_the_recipe_is_named_before_what_follows_from_it_and_a_switch_as_it_is_typed(tmp_path):
    with pytest.raises(CheckpointError, match="recipe=official, not course; use --recipe official or"):
        checkpoint.check_same(tmp_path, {"lr": 1.0, "recipe": "official"}, {"lr": 2.0, "recipe": "course"}, ["lr", "recipe"])
    for value, flag in ((True, "--standardize"), (False, "--no-standardize")):
        with pytest.raises(CheckpointError, match=f"standardize={value}, not {not value}; use {flag} or"):
            checkpoint.check_same(tmp_path, {"standardize": value}, {"standardize": not value}, ["standardize"])


def test_no_resume_leaves_no_summary_of_the_run_before(trained):
    summary = trained.parent / "summary.json"
    summary.write_text("{}")
    run = Run(short(output=str(trained.parent), resume=False))
    run.take_up()
    assert not summary.exists()
    summary.write_text("{}")
    Run(short(output=str(trained.parent))).take_up()
    assert summary.exists()


def test_a_longer_run_does_not_pass_as_a_shorter_one(uninterrupted, trained):
    with pytest.raises(ConfigError, match="holds a run of 64 steps, not 40; use another --output folder, or --no-resume"):
        Run(short(output=str(trained.parent), steps=40)).train()
    assert Run(short(output=str(trained.parent))).train()["steps"] == 64


@pytest.mark.parametrize("resume", [True, False])
def test_of_two_runs_in_one_folder_the_later_to_save_gives_way(resume, tmp_path):
    """It ends with a sentence and overwrites nothing; the other goes on to its end."""
    def other_run(run, event, values):
        if event == "save" and not others:
            others.append(Run(short(output=str(tmp_path), resume=resume)))
            others[0].train()
    others = []
    late = Run(short(output=str(tmp_path)), watchers=[other_run])
    with pytest.raises(CheckpointError, match="another process has written .*checkpoint.pt since .* two --output folders"):
        late.train()
    assert late.saved_at < late.step < 64 and checkpoint.load(tmp_path / "checkpoint.pt")["saved_at"] == 64
    assert Run(short(output=str(tmp_path))).train()["steps"] == 64


def test_a_checkpoint_that_someone_deletes_does_not_stop_a_run(uninterrupted, tmp_path):
    def delete(run, event, values):
        if event == "save":
            run.checkpoint.unlink()
    run = Run(short(output=str(tmp_path)), watchers=[delete])
    run.train()
    assert run.step == 64 and not run.checkpoint.exists()
    assert all(torch.equal(a, b) for a, b in zip(held_rows(run)[0].values(), held_rows(uninterrupted)[0].values()))

"""Early stopping, the best checkpoints, and the checkpoint before the last one."""

import os
import shutil

import numpy as np
import pytest
import torch

import killer
from dreamer.config import SIZES
from dreamer.tools import keeping
from dreamer.tools.services import ServiceOptions, watchers
from dreamer.tools.stopping import Stopper
from dreamer.training import checkpoint
from dreamer.training.checkpoint import CheckpointError, DamagedError, previous
from dreamer.training.cli import run_lesson
from dreamer.training.evaluate import evaluate
from dreamer.training.loop import Run, derived_seed
from dreamer.training.offline import train_world_model
from dreamer.training.shipping import load_agent
from dreamer.training.validate import ConfigError
from toys import TINY, tiny

pytestmark = pytest.mark.usefixtures("tiny_size")


def short(folder, **changes):
    """A run of half a second with an evaluation and a checkpoint every ten steps or so."""
    return tiny(**{"output": str(folder), "steps": 90, "train_ratio": 8.0, "eval_every": 10, "eval_episodes": 3,
                   "final_episodes": 2, **changes})


def train(folder, options=None, extra=(), **changes):
    """A whole run with services: the Run, with its summary."""
    run = Run(short(folder, **changes), watchers=(*watchers(options or ServiceOptions(keep=0)), *extra))
    run.summary = run.train()
    return run


def interrupt(at):
    """A watcher that plays Ctrl-C in the first event at or after step `at`."""
    def watch(run, event, values):
        if run.step >= at and event in ("log", "evaluate"):
            raise KeyboardInterrupt
    return watch


def train_in_two_parts(folder, options, at, **changes):
    with pytest.raises(KeyboardInterrupt):
        train(folder, options, [interrupt(at)], **changes)
    return train(folder, options, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing happens to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "1m", TINY)
        return train(tmp_path_factory.mktemp("whole"), ServiceOptions(keep=100))


# ------------------------------------------------------------------ options

def test_what_is_off_watches_nothing():
    assert watchers(ServiceOptions(keep=0)) == ()
    assert [type(w).__name__ for w in watchers(ServiceOptions())] == ["Keeper"]
    assert [type(w).__name__ for w in watchers(ServiceOptions(patience=2, keep=0))] == ["Stopper"]
    assert [type(w).__name__ for w in watchers(ServiceOptions(stop_at=475, keep=0))] == ["Stopper"]


@pytest.mark.parametrize("options, text", [
    (dict(patience=-1), "--patience must be 0 or more, not -1"),
    (dict(stop_window=0), "--stop-window must be 1 or more, not 0"),
    (dict(keep=-2), "--keep must be 0 or more, not -2"),
    (dict(keep=1.5), "--keep must be a whole number, not 1.5"),
    (dict(stop_at=float("nan")), "--stop-at must be a finite number, not nan"),
    (dict(stop_at=-float("inf")), "--stop-at must be a finite number, not -inf"),
    (dict(pictures_every=2), "--pictures-every needs --track"), (dict(track="tensorbord"), "did you mean tensorboard?"),
    (dict(track="wandb,,mlflow"), "with commas), not ''")])
def test_options_that_make_no_sense_are_refused(options, text):
    with pytest.raises(ConfigError) as caught:
        watchers(ServiceOptions(**options))
    assert text in str(caught.value) and "\n" not in str(caught.value)


# ------------------------------------------------------------------ early stopping

def reason(means, *rule):
    return Stopper(*rule).reason([{"step": 10 * (i + 1), "greedy": [m - 1, m + 1]} for i, m in enumerate(means)])


def test_patience_counts_evaluations_since_the_best():
    assert not reason([], 2, 1) and not reason([1, 2, 3, 4, 5], 2, 1)
    assert not reason([1, 5, 4], 2, 1) and not reason([1, 5, 4, 3, 6], 2, 1)
    assert reason([1, 5, 4, 3], 2, 1) == ("the greedy evaluation is 3.00 and has not risen above 5.00 of step 20 "
                                          "for 2 evaluations")
    assert reason([5, 5, 5], 2, 1) and not reason([5, 5], 2, 1)         # as good as before is no better


def test_the_window_is_averaged_before_it_is_judged():
    assert not reason([9, 1, 2], 1, 3)                                  # the first whole window
    assert reason([9, 1, 2, 3], 1, 3) and not reason([9, 1, 2, 9.5], 1, 3)
    assert reason([0, 9, 0, 9, 0, 9], 2, 2) and not reason([0, 9, 0, 9, 1, 9], 2, 2)


def test_a_score_that_was_asked_for_ends_a_run():
    assert not reason([480, 460], 0, 2, 475) and not reason([500], 0, 2, 475)
    assert reason([470, 480], 0, 2, 475) == "the mean of the last 2 greedy evaluations is 475.00, wanted 475"
    assert not reason([5] * 100, 0, 2, 475)


def test_a_run_ends_early_for_a_reason_and_stays_ended(whole, tmp_path, capfd, monkeypatch):
    scores = [np.mean(e["greedy"]) for e in whole.evaluations]
    end = next(i for i in range(len(scores)) if i - int(np.argmax(scores[:i + 1])) >= 2)
    assert end < len(scores) - 2                                        # the toy gets worse soon enough
    monkeypatch.delenv("DREAMER_QUIET")
    run = train(tmp_path, ServiceOptions(patience=2, stop_window=1, keep=0))
    assert run.step == run.summary["steps"] == 10 * (end + 1) and run.evaluations == whole.evaluations[:end + 1]
    assert "has not risen above" in run.summary["stopped"]
    assert f"stops at step {run.step}: {run.summary['stopped']}" in capfd.readouterr().out
    again = train(tmp_path, ServiceOptions(patience=2, stop_window=1, keep=0))
    assert killer.results(tmp_path)[1]["steps"] == run.step and again.summary["stopped"] == run.summary["stopped"]
    further = train(tmp_path, ServiceOptions(patience=100, stop_window=1, keep=0))
    assert "stopped" not in further.summary and further.step == 90 and len(further.evaluations) == 9
    assert further.evaluations[:end + 1] == run.evaluations


def test_resuming_changes_nothing_of_when_a_run_ends(tmp_path):
    options = ServiceOptions(patience=2, stop_window=2, keep=0)
    one = train(tmp_path / "a", options)
    assert 40 < one.step < 90
    two = train_in_two_parts(tmp_path / "b", options, one.step - 5)
    assert two.summary["stopped"] == one.summary["stopped"]
    assert killer.results(tmp_path / "a") == killer.results(tmp_path / "b")


def test_too_short_a_run_is_told_so(tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("DREAMER_QUIET")
    train(tmp_path, ServiceOptions(patience=9, stop_window=3, keep=0), steps=30)
    assert "needs 12 evaluations, a run of 30 steps has 3" in capfd.readouterr().out


# ------------------------------------------------------------------ the best agents

def best(folder):
    return [file.name for file in keeping.ranked(folder)]


def wanted(run, count):
    """The names that the evaluations of a run ask for, the best one last."""
    order = sorted(run.evaluations, key=lambda e: (round(np.mean(e["greedy"]), 2), e["step"]))
    return [f"best-step{e['step']}-score{np.mean(e['greedy']):.2f}.pt" for e in order[-count:]]


@pytest.mark.parametrize("count", [1, 3])
def test_the_best_agents_are_kept_and_no_others(count, whole, tmp_path):
    run = train(tmp_path, ServiceOptions(keep=count))
    assert best(tmp_path) == wanted(run, count) and killer.results(tmp_path) == killer.results(whole.folder)
    assert best(tmp_path) == best(whole.folder)[-count:] and len(best(whole.folder)) == 9


def test_negative_scores_and_ties_are_put_in_order(tmp_path):
    for name in ("best-step5-score-200.00.pt", "best-step9-score-1234.50.pt", "best-step30-score-3.10.pt",
                 "best-step40-score-3.10.pt", "best-step100-score-3.10.pt", "best-mine.pt",
                 "best-step7-score1.00.pt.tmp"):
        (tmp_path / name).touch()
    assert [int(name.split("-")[1].removeprefix("step")) for name in best(tmp_path)] == [9, 5, 30, 40, 100]


def test_a_best_checkpoint_holds_the_agent_that_was_evaluated(whole):
    for path in keeping.ranked(whole.folder):
        saved, (agent, config) = checkpoint.load(path), load_agent(path)
        step, evaluation = saved["step"], saved["evaluation"]
        assert evaluation in whole.evaluations and saved["score"] == np.mean(evaluation["greedy"])
        assert path.name == f"best-step{step}-score{saved['score']:.2f}.pt" and "3 greedy episodes" in saved["metric"]
        again = evaluate(agent, config.env, 3, derived_seed(config.seed, 1, step), greedy=True)
        assert again == evaluation["greedy"]
    assert path.stat().st_size < whole.checkpoint.stat().st_size / 2


def test_an_interrupted_run_keeps_the_same_ones(whole, tmp_path):
    (tmp_path / "best-step40-score7.00.pt.tmp").touch()                 # a kill in mid-write
    train_in_two_parts(tmp_path, ServiceOptions(keep=2), 55)
    assert best(tmp_path) == best(whole.folder)[-2:] and not list(tmp_path.glob("*.tmp"))
    for name in best(tmp_path):
        one, two = (checkpoint.load(folder / name) for folder in (tmp_path, whole.folder))
        assert one["evaluation"] == two["evaluation"]
        assert all(torch.equal(one["average"][key], value) for key, value in two["average"].items())


def test_a_run_that_begins_anew_does_not_compete_with_an_earlier_one(whole, tmp_path):
    (tmp_path / "best-step70-score999.00.pt").touch()
    train(tmp_path, ServiceOptions(keep=1), resume=False)
    assert best(tmp_path) == best(whole.folder)[-1:]


def test_a_full_disk_leaves_the_best_one_that_there_is(whole, tmp_path, monkeypatch):
    path = tmp_path / "best-step10-score1.00.pt"
    path.write_bytes(b"good")

    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(torch, "save", full)
    run = Run(short(tmp_path))
    run.evaluations = whole.evaluations
    with pytest.raises(OSError, match="No space"):
        keeping.Keeper(1)(run, "evaluate", {"step": 20, "greedy": [5.0], "sampled": [1.0]})
    assert path.read_bytes() == b"good" and best(tmp_path) == [path.name]


# ------------------------------------------------------------------ the checkpoint before the last one

def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def loads(path):
    try:
        return bool(checkpoint.load(path))
    except CheckpointError:
        return False


@pytest.fixture
def stopped(whole, tmp_path):
    """A folder with the last two checkpoints of a run that was stopped in mid-run."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, extra=[interrupt(60)])
    return tmp_path / "checkpoint.pt"


def steps_of(path):
    return checkpoint.load(path)["saved_at"]


def test_the_last_two_are_kept_and_the_last_one_is_taken_up(whole, stopped, capfd, monkeypatch):
    assert steps_of(previous(stopped)) < steps_of(stopped)
    last = steps_of(stopped)
    monkeypatch.delenv("DREAMER_QUIET")
    train(stopped.parent)
    said = capfd.readouterr()
    assert f"going on from checkpoint.pt of step {last}" in said.out and "damaged" not in said.err
    assert killer.results(stopped.parent) == killer.results(whole.folder)


def test_a_damaged_one_is_named_and_the_one_before_it_is_used(whole, stopped, capfd, monkeypatch):
    damage(stopped)
    damaged, before = stopped.read_bytes(), steps_of(previous(stopped))
    monkeypatch.delenv("DREAMER_QUIET")
    train(stopped.parent)
    said = capfd.readouterr()
    assert said.err.count("\n") - said.err.count("\r") <= 1 and (
        f"{stopped} is damaged (its checksum does not match) and now called checkpoint-damaged.pt; "
        "the checkpoint before it is used, checkpoint-previous.pt") in said.err
    assert f"going on from checkpoint-previous.pt of step {before}" in said.out
    assert killer.results(stopped.parent) == killer.results(whole.folder)
    assert stopped.with_name("checkpoint-damaged.pt").read_bytes() == damaged and loads(stopped)


def test_a_missing_one_is_made_up_for_by_the_one_before_it(whole, stopped, capfd):
    stopped.unlink()
    train(stopped.parent)
    assert f"{stopped} is missing; the checkpoint before it is used" in capfd.readouterr().err
    assert killer.results(stopped.parent) == killer.results(whole.folder)


def test_two_damaged_ones_are_both_named_and_left_alone(stopped):
    for file in (stopped, previous(stopped)):
        damage(file)
    bytes_before = stopped.read_bytes(), previous(stopped).read_bytes()
    with pytest.raises(CheckpointError) as caught:
        Run(short(stopped.parent)).train()
    assert str(caught.value) == (f"{stopped} is damaged (its checksum does not match), and so is "
                                 "checkpoint-previous.pt; delete both to start anew")
    assert (stopped.read_bytes(), previous(stopped).read_bytes()) == bytes_before


def test_a_checkpoint_that_does_not_fit_is_refused_not_replaced_by_an_older_one(stopped):
    with pytest.raises(CheckpointError, match="checkpoint.pt was trained with seed=0"):
        Run(short(stopped.parent, seed=3)).train()
    checkpoint.save(stopped, {"config": 1})
    with pytest.raises(CheckpointError, match="another version of the course") as caught:
        Run(short(stopped.parent)).train()
    assert not isinstance(caught.value, DamagedError) and previous(stopped).exists()


def test_no_resume_leaves_nothing_to_fall_back_on(stopped):
    with pytest.raises(KeyboardInterrupt):
        train(stopped.parent, extra=[interrupt(0)], resume=False)
    assert not stopped.exists() and not previous(stopped).exists()


@pytest.mark.parametrize("first", ["sound", "damaged", "missing"])
def test_at_any_moment_there_is_a_whole_one(first, stopped, monkeypatch):
    """Looked at before and after everything that changes a name in the folder."""
    {"sound": lambda path: None, "damaged": damage, "missing": lambda path: path.unlink()}[first](stopped)
    renamed, moments = os.replace, []

    def replace(*names):
        for act in (lambda: None, lambda: renamed(*names)):
            act()
            moments.append(loads(stopped) or loads(previous(stopped)))
    monkeypatch.setattr(os, "replace", replace)
    train(stopped.parent)
    assert len(moments) > 8 and all(moments)


def test_a_run_killed_between_the_two_names_goes_on(whole, tmp_path):
    """The third renaming gives the second checkpoint its name; the first one has been put aside before it."""
    config = short(tmp_path)
    original, calls = os.replace, []

    def replace(*names):
        calls.append(names)
        if len(calls) == 3:
            shutil.copytree(tmp_path, tmp_path / "killed")              # as a kill would leave it
        return original(*names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        Run(config).train()
    left = tmp_path / "killed"
    assert {file.name for file in left.iterdir()} == {"metrics.jsonl", "checkpoint.pt.tmp", "checkpoint-previous.pt"}
    train(left)
    assert killer.results(left) == killer.results(whole.folder)


def test_the_world_model_alone_falls_back_too(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("dreamer.training.offline.SAVE_EVERY", 10)
    config = short(tmp_path, steps=60, train_ratio=32.0)
    one = train_world_model(Run(config))
    path = tmp_path / "checkpoint.pt"
    assert checkpoint.load(path)["updates"] == 36 and checkpoint.load(previous(path))["updates"] == 30
    damage(path)
    two = train_world_model(Run(config))
    assert "checkpoint-damaged.pt" in capfd.readouterr().err
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values()))


def test_a_lesson_says_it_in_one_line(stopped, capfd):
    damage(stopped)
    config = short(stopped.parent)
    assert run_lesson(config, None, []) == 0
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and said.startswith(f"{stopped} is damaged")

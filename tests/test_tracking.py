"""Tracking: every line and picture reaches the real libraries, offline, and is read back by their own readers."""

import glob
import io
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import killer
from dreamer.config import SIZES
from dreamer.tools import tracking
from dreamer.tools.pictures import commit
from dreamer.tools.services import ServiceOptions, watchers
from dreamer.training.loop import Run
from dreamer.training.offline import train_world_model
from dreamer.training.validate import ConfigError
from toys import TINY, tiny

THERE = [name for name in tracking.PACKAGES if find_spec(name)]


def needs(name):
    return pytest.mark.skipif(name not in THERE, reason=f"{name} is not installed (requirements-extras.txt)")


needs_any = pytest.mark.skipif(not THERE, reason="no tracker is installed (requirements-extras.txt)")


def config(folder, **changes):
    """A run of CartPole whose agent knows nothing; episodes of 10 steps and more."""
    return tiny(**{"env": "CartPole-v1", "output": str(folder), "prefill": 40, "eval_every": 30, "steps": 120,
                   "capacity": 300, "checkpoint_every": 20, **changes})


def train(config, track, extra=(), **options):
    options = ServiceOptions(keep=0, track=",".join(track), **options)
    run = Run(config, command="python train.py", watchers=(*watchers(options), *extra))
    run.summary = run.train()
    return run


def interrupt(at):
    """A watcher that plays Ctrl-C when a line is logged at or after step `at`, well after a checkpoint."""
    def watch(run, event, values):
        if event == "log" and run.step >= at and run.step > run.saved_at:
            raise KeyboardInterrupt
    return watch


@pytest.fixture(scope="module")
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "1m", TINY)
        patch.setenv("WANDB_MODE", "offline")
        patch.setattr(tracking, "commit", lambda: "abc123+")
        for name in ("MLFLOW_TRACKING_URI", "WANDB_PROJECT"):
            patch.delenv(name, raising=False)
        yield patch


@pytest.fixture(scope="module")
def plain(offline, tmp_path_factory):
    """The run that nobody follows."""
    return train(config(tmp_path_factory.mktemp("plain") / "run"), [])


@pytest.fixture(scope="module")
def tracked(offline, tmp_path_factory):
    """The same run with every tracker there is, stopped by Ctrl-C in mid-run and taken up again."""
    folder = tmp_path_factory.mktemp("tracked") / "run"
    with pytest.raises(KeyboardInterrupt):
        train(config(folder), THERE, [interrupt(80)])
    if "wandb" in THERE:            # what the end of the process does
        import wandb
        wandb.teardown()
    return train(config(folder), THERE)


def wanted(run):
    """What must have arrived: name -> list of (step, value)."""
    found = {}
    for line in map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines()):
        for name, value in line.items():
            if name != "step" and value is not None:
                found.setdefault(f"train/{name}", []).append((line["step"], value))
    final = {"step": run.step, **run.summary["final"]}
    for kind, scores in (*(("eval", e) for e in run.evaluations), ("final", final)):
        for mode in ("greedy", "sampled"):
            for name in ("mean", "std", "min", "max"):
                found.setdefault(f"{kind}/{mode}_{name}", []).append((scores["step"], getattr(np, name)(scores[mode])))
    return found


def check(found, run):
    """The same names, every step once and in order, the same values, but for the times of repeated steps."""
    expected = wanted(run)
    assert found.keys() == expected.keys() and len(expected) > 30
    for name, points in expected.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points], name
        if name not in ("train/seconds", "train/updates_per_second"):
            np.testing.assert_allclose([v for _, v in found[name]], [v for _, v in points], rtol=1e-6, err_msg=name)


def check_panel(data):
    assert Image.open(io.BytesIO(data)).size == (1100, 800)


def check_dream(data):
    film = Image.open(io.BytesIO(data))
    assert film.format == "GIF" and film.n_frames > 6


# ------------------------------------------------------------------ the run itself

@needs_any
def test_a_tracked_run_is_the_same_run(plain, tracked):
    assert killer.results(tracked.folder) == killer.results(plain.folder)


@needs_any
def test_it_knows_how_far_every_tracker_is(tracked):
    state = json.loads((tracked.folder / "tracking.json").read_text())
    assert list(state) == THERE
    for one in state.values():
        assert one["sent"] == {"log": 119, "evaluate": 120, "end": 120, "pictures": 120}


@needs_any
def test_a_finished_run_sends_nothing_twice(tracked, offline):
    def files():            # without the log that a process of wandb's own may still be writing
        return {p: p.stat().st_size for name in ("wandb", "mlruns", "tensorboard")
                for p in (tracked.folder / name).rglob("*") if not p.match("debug*.log")}
    before = files()
    train(config(tracked.folder), THERE)
    assert files() == before


def test_the_world_model_alone_is_drawn_over_updates(offline, tmp_path, monkeypatch):
    """There no step is taken while it learns: lines of one step are told apart by their updates."""
    lines = []

    class Tracker:
        rewinds, key, look = False, "k", ""

        def __init__(self, *_):
            self.scalars = lambda numbers, step: lines.append((step, numbers["train/updates"]))
    monkeypatch.setattr("dreamer.training.offline.LOG_EVERY", 5)
    monkeypatch.setattr("dreamer.tools.track_tensorboard.Tracker", Tracker)
    watch = tracking.Tracking(["tensorboard"])
    train_world_model(Run(config(tmp_path, steps=60), watchers=[watch]))
    assert lines == [(n, n) for n in range(5, 10 * (len(lines) // 2) + 6, 5)][:len(lines)] and len(lines) > 1


# ------------------------------------------------------------------ TensorBoard

def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    return EventAccumulator(str(folder / "tensorboard"), {"scalars": 0, "images": 0, "tensors": 0}).Reload()


@needs("tensorboard")
def test_tensorboard(tracked):
    read = events(tracked.folder)
    check({name: [(e.step, e.value) for e in read.Scalars(name)] for name in read.Tags()["scalars"]}, tracked)
    (panel,), (dream,) = read.Images("health"), read.Images("dream")
    assert panel.step == dream.step == 120
    check_panel(panel.encoded_image_string)
    check_dream(dream.encoded_image_string)
    text = read.Tensors("config/text_summary")[-1].tensor_proto.string_val[0].decode()
    said = json.loads(text.removeprefix("```json\n").removesuffix("\n```"))
    assert said["batch_length"] == 8 and said["command"] == "python train.py" and said["commit"] == "abc123+"


@needs("tensorboard")
def test_tensorboard_after_a_kill(plain, offline, tmp_path):
    """Nothing is closed here: what was written is there all the same, and what was too much is taken back."""
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path / "run", log_every=1), ["tensorboard"], [interrupt(80)])
    left = [e.step for e in events(tmp_path / "run").Scalars("train/updates")]
    assert left[-1] >= 80 and left == list(range(1, left[-1] + 1))
    again = Run(config(tmp_path / "run", log_every=1), watchers=watchers(ServiceOptions(keep=0, track="tensorboard")))
    again.take_up()
    assert again.step < left[-1] and not again.envs.close()
    assert [e.step for e in events(tmp_path / "run").Scalars("train/updates")] == list(range(1, again.step + 1))


@needs("tensorboard")
def test_pictures_now_and_then(offline, tmp_path):
    run = train(config(tmp_path / "run"), ["tensorboard"], pictures_every=2)
    assert [e.step for e in events(run.folder).Images("dream")] == [60, 120]
    assert {p.name for p in run.folder.glob("*-step*")} == {
        f"{kind}-step{step}.{suffix}" for kind, suffix in (("health", "png"), ("dream", "gif")) for step in (60, 120)}


# ------------------------------------------------------------------ Weights & Biases

@needs("wandb")
def test_wandb_offline(tracked):
    """Two stretches of one run, read by wandb's own inspector of its files."""
    parts = sorted(glob.glob(str(tracked.folder / "wandb" / "offline-run-*" / "*.wandb")))
    found, configs = {}, []
    for part in parts:
        out = subprocess.run([sys.executable, "-m", "wandb", "leet", "inspect", "--json", part], capture_output=True,
                             text=True, check=True).stdout
        for record in map(json.loads, out.splitlines()):
            if record["type"] == "run":
                configs.append((record["run"]["run_id"], record["run"]["project"], record["run"]["config"]["update"]))
            if record["type"] == "history":
                item = record["history"]["item"]
                for name, value in item.items():
                    if name.startswith(("train/", "eval/", "final/")) or name.endswith(".path"):
                        found.setdefault(name, []).append((item["step"], value))
    assert len(parts) == 2 and len({run_id for run_id, _, _ in configs}) == 1 and configs[0][1] == "dreamer"
    assert all(c["batch_length"] == 8 and c["commit"] == "abc123+" for _, _, c in configs)
    (panel,), (dream,) = found.pop("health.path"), found.pop("dream.path")
    assert panel[0] == dream[0] == 120
    check_panel((Path(parts[-1]).parent / "files" / panel[1]).read_bytes())
    check_dream((Path(parts[-1]).parent / "files" / dream[1]).read_bytes())
    check(found, tracked)


# ------------------------------------------------------------------ MLflow

@needs("mlflow")
def test_mlflow_in_files(tracked):
    from mlflow import MlflowClient
    client = MlflowClient((tracked.folder / "mlruns").absolute().as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("dreamer").experiment_id])
    check({name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
           for name in run.data.metrics}, tracked)
    assert run.info.status == "FINISHED" and run.info.run_name == "run"
    assert run.data.params["batch_length"] == "8" and run.data.tags["mlflow.source.name"] == "python train.py"
    assert run.data.tags["mlflow.source.git.commit"] == "abc123+"
    place = tracked.folder / "mlruns" / run.info.experiment_id / run.info.run_id / "artifacts"
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"health-step120.png", "dream-step120.gif", "config-step0.json"} < names and len(names) == 4
    check_panel((place / "health-step120.png").read_bytes())
    check_dream((place / "dream-step120.gif").read_bytes())


# ------------------------------------------------------------------ what goes wrong

@needs("tensorboard")
def test_a_tracker_that_cannot_begin_costs_one_line(plain, offline, tmp_path, capfd):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("in the way")
    run = train(config(tmp_path / "run"), ["tensorboard"])
    assert killer.results(run.folder) == killer.results(plain.folder)
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and said.startswith("warning: tracking with tensorboard ends here (")


@needs("mlflow")
def test_a_tracker_that_breaks_costs_one_line_and_the_others_go_on(plain, offline, tmp_path, capfd):
    def remove(run, event, values):
        if event == "evaluate" and run.step == 60:
            shutil.rmtree(run.folder / "mlruns")
    run = train(config(tmp_path / "run"), [name for name in THERE if name != "wandb"], [remove])
    assert killer.results(run.folder) == killer.results(plain.folder)
    said = [line for line in capfd.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == 1 and said[0].startswith("warning: tracking with mlflow ends here (")
    if "tensorboard" in THERE:
        assert events(run.folder).Scalars("eval/greedy_mean")[-1].step == 120


@needs("tensorboard")
def test_pictures_that_cannot_be_drawn_cost_one_line(offline, tmp_path, capfd, monkeypatch):
    """Episodes of 1 to 8 steps: none is sure to have a window of 6 rows."""
    monkeypatch.setattr("dreamer.tools.pictures.EPISODES", 1)
    run = train(config(tmp_path / "run", env="toys:ToyCounter-v0", steps=30, prefill=24), ["tensorboard"])
    said = capfd.readouterr().err
    assert "final/greedy_mean" in events(run.folder).Tags()["scalars"]
    assert not said or said.count("\n") == 1 and said.startswith("warning: no pictures of step 30 (")


def test_a_missing_package_is_named_before_anything_starts(monkeypatch, tmp_path):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    for name, package in tracking.PACKAGES.items():
        with pytest.raises(ConfigError, match=f"--track {name} needs a package that is not installed: "
                                              f"pip install {package} "):
            watchers(ServiceOptions(track=name))


def test_a_folder_of_that_name_is_no_package(monkeypatch, tmp_path):
    """wandb writes a folder wandb/: where the package is missing, Python would take it for one."""
    (tmp_path / "empty_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tracking, "PACKAGES", {"empty_folder": "x"})
    assert find_spec("empty_folder") is not None
    with pytest.raises(ConfigError, match="not installed"):
        tracking.names_of("empty_folder")
    assert tracking.names_of("") == ()


def test_the_commit_of_this_code():
    found = commit()
    if not (Path(__file__).parent.parent / ".git").exists() or not shutil.which("git"):
        assert found == ""
    else:
        assert len(found.removesuffix("+")) == 40 and int(found.removesuffix("+"), 16)

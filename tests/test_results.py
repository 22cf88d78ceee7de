"""assets/results.json, the README's table and the figure tell the same story, and runs give their summaries."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

import train_all
from dreamer.config import Config
from dreamer.training import results

ROOT = Path(train_all.__file__).resolve().parent


def summary(seed=0):
    scores = [{"step": step, "greedy": [400.0, 500.0], "sampled": [300.0]} for step in (5000, 6000)]
    return {"task": "CartPole-v1", "seed": seed, "size": "1m", "steps": 8000, "updates": 7, "seconds": 90.4,
            "config": asdict(Config(output="somewhere")), "versions": {}, "evaluations": scores,
            "final": {"greedy": [450.0, 500.0], "sampled": [480.0]}}


def test_readme_agrees_with_results():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split(results.BEGIN)[1].split(results.END)[0].strip()
    assert shown == results.table(results.read(ROOT))


def test_every_experiment_has_every_seed_and_the_shared_hyperparameters():
    stored, allowed = results.read(ROOT), {"env", "steps", "seed", "final_episodes", "device", "threads"}
    default = asdict(Config())
    for script, seeds in train_all.EXPERIMENTS.items():
        entries = stored[Path(script).stem]
        assert [entry["seed"] for entry in entries] == list(seeds)
        for entry in entries:
            different = {name for name, value in entry["config"].items() if default[name] != value}
            assert different <= allowed


def test_entry_keeps_scores_and_no_path():
    entry = results.entry(summary(), "python x.py")
    assert entry["curve"]["greedy"] == [[5000, 450.0], [6000, 450.0]]
    assert "output" not in entry["config"] and entry["final"]["greedy"] == [450.0, 500.0]


def test_held_is_the_mean_of_the_late_evaluations():
    assert results.held([[4000, 0.0], [5000, 400.0], [8000, 500.0]], 8000) == 450.0


def test_publish_writes_table_and_picture(tmp_path):
    (tmp_path / "README.md").write_text(f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n")
    results.write(tmp_path / "assets" / "results.json", {"02_dreamer_cartpole": [results.entry(summary(3), "c")]})
    results.publish(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "old" not in text and "| CartPole-v1 | 3 | 8,000 | 475.0 (450) | 480.0 | 450.0 | 1.5 |" in text
    assert text.startswith("before") and text.endswith("after\n")
    assert (tmp_path / "assets" / "learning_curves.png").stat().st_size > 1000


def test_damaged_results_are_named_and_left_alone(tmp_path):
    (tmp_path / "assets").mkdir()
    path = tmp_path / "assets" / "results.json"
    path.write_text("{ not json")
    with pytest.raises(SystemExit, match="damaged"):
        results.publish(tmp_path)
    assert path.read_text() == "{ not json"


def test_collect_skips_what_is_not_finished(tmp_path):
    folder = tmp_path / "02_dreamer_cartpole-1"
    folder.mkdir()
    assert train_all.collect(tmp_path) == {}
    (folder / "summary.json").write_text(json.dumps(summary(1)))
    assert [entry["seed"] for entry in train_all.collect(tmp_path)["02_dreamer_cartpole"]] == [1]


def test_a_failed_run_is_named_and_does_not_stop_the_rest(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "assets", tmp_path / "assets")
    shutil.copy(ROOT / "README.md", tmp_path)
    monkeypatch.setattr(train_all, "ROOT", tmp_path)
    monkeypatch.setattr(train_all, "EXPERIMENTS", {"02_dreamer_cartpole.py": [0, 1]})
    (tmp_path / "runs" / "02_dreamer_cartpole-1").mkdir(parents=True)
    (tmp_path / "runs" / "02_dreamer_cartpole-1" / "summary.json").write_text(json.dumps(summary(1)))
    with pytest.raises(SystemExit, match="02_dreamer_cartpole-0"):      # the script does not exist there
        train_all.main(["--runs", str(tmp_path / "runs"), "--jobs", "1"])
    assert [e["seed"] for e in results.read(tmp_path)["02_dreamer_cartpole"]] == [1]

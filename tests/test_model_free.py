"""benchmarks/model_free.py: what is finished is stored, whatever comes after. (The training itself is the library's.)"""

import sys
from types import ModuleType

import pytest

from benchmarks import model_free
from dreamer.training import results


REST = {"steps": 9, "seconds": 3, "curve": [], "final": {"greedy": [1.0]}}     # of an entry

@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Runs that are done at once, in the order in which they were made; stored in a folder of their own."""
    made = []

    def run(lesson, task, algorithm, settings, envs, published, seed):
        made.append((task, algorithm, seed))
        return {"lesson": lesson, "task": task, "algorithm": algorithm, "seed": seed, **REST}
    monkeypatch.setitem(sys.modules, "stable_baselines3", ModuleType("stable_baselines3"))
    monkeypatch.setattr(model_free, "ASSETS", tmp_path)
    monkeypatch.setattr(model_free, "run", run)
    return made


def stored(folder):
    return [(e["task"], e["algorithm"], e["seed"]) for e in results.read(folder)[results.REFERENCES]]


def test_entries_replace_those_of_the_same_run_and_no_others(runs, tmp_path):
    results.write(tmp_path / "results.json", {results.REFERENCES: [
        {"lesson": "03_dreamer_pendulum", "task": "Pendulum-v1", "algorithm": "SAC", "seed": seed, "old": True, **REST} for seed in (0, 7)]})
    model_free.main(["--tasks", "Pendulum-v1", "--seeds", "2"])
    assert stored(tmp_path) == [("Pendulum-v1", "SAC", seed) for seed in (0, 1, 7)]
    assert [e.get("old", False) for e in results.read(tmp_path)[results.REFERENCES]] == [False, False, True]


def test_what_is_finished_when_it_is_stopped_is_stored(runs, tmp_path, monkeypatch, capsys):
    done = model_free.run

    def stop(*job):
        if len(runs) == 2:
            raise KeyboardInterrupt
        return done(*job)
    monkeypatch.setattr(model_free, "run", stop)
    assert model_free.main(["--tasks", "Acrobot-v1", "CartPole-v1", "--seeds", "4"]) == 130
    assert capsys.readouterr().err.endswith("for the others, each task from its first run on:\n"
                                            "  python benchmarks/model_free.py --tasks Acrobot-v1 CartPole-v1 --seeds 4\n")
    assert stored(tmp_path) == runs == [("CartPole-v1", "DQN", 0), ("CartPole-v1", "DQN", 1)]


def test_damaged_results_are_named_before_anything_is_trained(runs, tmp_path):
    (tmp_path / "results.json").write_text("[")
    with pytest.raises(SystemExit, match="results.json is damaged"):
        model_free.main([])
    assert not runs and (tmp_path / "results.json").read_text() == "["

"""Sweeps with lessons that are done at once: the grid, its runs, table and picture; bad grids are one sentence."""

import csv
import json
from pathlib import Path

import pytest

import train_all
from dreamer.config import Config
from dreamer.tools import sweeps
from dreamer.training import experiments, results
from dreamer.training.validate import ConfigError

ROOT = Path(train_all.__file__).resolve().parent
# A lesson as a sweep sees it; as a script it needs no torch. Its score tells its settings: 1e6 lr + 10 switch + seed.
FAKE = '''
import json, sys
from pathlib import Path
if __name__ != "__main__":
    from dreamer.config import Config
    from dreamer.training.bar import Bar
    DEFAULTS, BAR = Config(env="CartPole-v1", steps=2000), Bar(final=475)
else:
    words = sys.argv[1:]
    flags = dict(zip(words, words[1:])) | dict(word.split("=") for word in words if word.startswith("--lr="))
    folder, seed, lr = Path(flags["--output"]), int(flags["--seed"]), float(flags.get("--lr", 1e-3))
    standardize = "--no-standardize" not in words
    with open(folder / "starts.txt", "a") as starts:
        starts.write("started\\n")
    (Path(flags.get("--output") or "assets") / "drawn").write_text("a picture")      # as paths.pictures says
    BEHAVIOUR
    score = 1e6 * lr + 10 * standardize + seed
    scores = lambda value: {"greedy": [value - 1, value + 1], "sampled": [value / 2]}
    config = dict(env="CartPole-v1", steps=2000, seed=seed, threads=1, lr=lr, standardize=standardize)
    (folder / "summary.json").write_text(json.dumps({
        "task": "CartPole-v1", "seed": seed, "steps": 2000, "updates": 376, "seconds": 250.0, "config": config,
        "evaluations": [{"step": 1000, **scores(score / 10)}, {"step": 2000, **scores(score)}],
        "final": scores(score)}))
'''


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder with a README and a fake lesson of five seeds; that is the only experiment of this test."""
    write_lesson(tmp_path)
    (tmp_path / "README.md").write_text("\n".join(results.markers("results")))
    monkeypatch.setattr(experiments, "SCRIPTS", tmp_path)
    monkeypatch.setattr(experiments, "SEEDS", {"02_dreamer_cartpole": 5})
    monkeypatch.setattr(train_all, "ROOT", tmp_path)
    return tmp_path


def write_lesson(folder, behaviour="pass"):
    (folder / "02_dreamer_cartpole.py").write_text(FAKE.replace("BEHAVIOUR", behaviour))


def starts(folder):
    """{name of a run's folder: how often it was started}."""
    return {path.parent.name: len(path.read_text().splitlines()) for path in folder.glob("*/starts.txt")}


def rows(folder):
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def run(*argv):
    return train_all.main([*argv, "--jobs", "2"])


# ------------------------------------------------------------------ whole sweeps

def test_a_sweep_runs_the_grid_and_leaves_table_csv_and_picture(course, capsys):
    assert run("02", "--set", "lr=1e-4,3e-4", "--set", "standardize=true,false", "--seeds", "2") == 0
    folder, said = course / "runs" / "sweeps" / "02-lr-standardize", capsys.readouterr().out
    assert starts(folder) == {f"02-CartPole-v1-lr={lr}-standardize={s}-{seed}": 1
                              for lr in ("0.0001", "0.0003") for s in (True, False) for seed in (0, 1)}
    table = (folder / "table.txt").read_text()
    assert table in said and [line.split() for line in table.splitlines()[1:]] == [
        ["lr", "standardize", "mean", "seed", "0", "seed", "1"],
        ["0.0001", "True", "110.5", "110.0", "111.0"], ["0.0001", "False", "100.5", "100.0", "101.0"],
        ["0.0003", "True", "310.5", "310.0", "311.0"], ["0.0003", "False", "300.5", "300.0", "301.0"]]
    assert rows(folder)[-1] == {
        "lesson": "02_dreamer_cartpole", "task": "CartPole-v1", "lr": "0.0003", "standardize": "False", "seed": "1",
        "state": "done", "score": "301.0", "score_sampled": "150.5", "steps": "2000", "updates": "376",
        "seconds": "250.0"}
    assert len(rows(folder)) == 8 and (folder / "results.png").read_bytes().startswith(b"\x89PNG")
    assert "02 lr=0.0001 standardize=True" in said          # in the live table


def test_a_sweep_publishes_nothing_and_draws_nowhere_else(course):
    readme = (course / "README.md").read_text()
    assert run("--set", "lr=1e-4", "--seeds", "2") == 0
    assert (course / "README.md").read_text() == readme and not (course / "assets").exists()
    assert sorted(path.name for path in course.iterdir() if not path.name.startswith("__")) == [
        "02_dreamer_cartpole.py", "README.md", "runs"]
    folder = course / "runs" / "sweeps" / "all-lr"          # no lesson named: all of them, as without a sweep
    assert len(list(folder.glob("*/drawn"))) == 2 and not (ROOT / "drawn").exists()


def test_seeds_alone_run_the_lesson_and_publish_nothing(course):
    assert run("02", "--seeds", "3") == 0
    folder = course / "runs" / "sweeps" / "02-seeds"
    assert starts(folder) == {f"02-CartPole-v1-{seed}": 1 for seed in range(3)}
    assert [row["score"] for row in rows(folder)] == ["1010.0", "1011.0", "1012.0"] and not (course / "assets").exists()


def test_a_grown_grid_runs_only_what_is_new(course, capsys):
    run("02", "--set", "lr=1e-4")
    assert run("02", "--set", "lr=0.0001,3e-4", "--seeds", "2") == 0
    assert "4 runs, 1 of them done" in capsys.readouterr().out
    folder = course / "runs" / "sweeps" / "02-lr"
    assert set(starts(folder).values()) == {1} and len(starts(folder)) == len(rows(folder)) == 4


def test_a_run_of_other_settings_does_not_count(course):
    run("02", "--set", "lr=1e-4")
    summary = course / "runs" / "sweeps" / "02-lr" / "02-CartPole-v1-lr=0.0001-0" / "summary.json"
    summary.write_text(summary.read_text().replace('"lr": 0.0001', '"lr": 0.1'))
    run("02", "--set", "lr=1e-4")
    assert starts(summary.parents[1]) == {summary.parent.name: 2}


def test_collect_runs_nothing_and_shows_what_is_finished(course, capsys):
    run("02", "--set", "lr=1e-4")
    assert run("02", "--set", "lr=1e-4,3e-4", "--collect") == 0
    folder = course / "runs" / "sweeps" / "02-lr"
    assert [(row["lr"], row["state"], row["score"]) for row in rows(folder)] == [
        ("0.0001", "done", "110.0"), ("0.0003", "waiting", "")]
    assert len(starts(folder)) == 1 and "waiting" in (folder / "table.txt").read_text()


def test_a_failed_run_is_named_and_left_out_of_the_mean(course, capsys):
    write_lesson(course, 'sys.exit("error: it broke") if seed == 0 and lr > 2e-4 else None')
    assert run("02", "--set", "lr=1e-4,3e-4", "--seeds", "2", "--name", "broken") == 1
    said, folder = capsys.readouterr().out, course / "runs" / "sweeps" / "broken"
    assert "failed: 02 lr=0.0003, CartPole-v1, seed 0: error: it broke (exit code 1)" in said
    assert (folder / "table.txt").read_text().splitlines()[-1].split() == ["0.0003", "311.0", "failed", "311.0"]


def test_quick_is_toy_size_elsewhere_and_settings_still_count(course):
    options = train_all.read_options(["--quick", "--set", "steps=70", "02"])
    jobs, _ = sweeps.plan(options.names, options.runs / "sweeps", sweeps.read_grid(options.set), 1, options.quick)
    assert [(job.config.steps, job.config.prefill, job.folder.parents[1]) for job in jobs] == [
        (70, 30, course / "runs" / "quick")]


# ------------------------------------------------------------------ the grid

def test_values_become_what_the_field_holds():
    assert sweeps.read_grid(["lr=1e-4, 3e-4", "--batch-size=8,16", "standardize=True,false",
                             "recipe=official"]) == {
        "lr": [0.0001, 0.0003], "batch_size": [8, 16], "standardize": [True, False], "recipe": ["official"]}


def test_settings_reach_the_run_of_a_real_lesson(tmp_path):
    grid = sweeps.read_grid(["lr=1e-4", "standardize=false", "recipe=official", "threads=2"])
    job, = sweeps.plan(["02_dreamer_cartpole"], tmp_path, grid, 1)[0]
    assert (job.config.lr, job.config.standardize, job.config.batch_length, job.config.threads) == (1e-4, False, 64, 2)
    assert job.config.steps == experiments.load("02_dreamer_cartpole").defaults.steps
    both = sweeps.plan(["01_world_model_demo"], tmp_path, {"lr": [1e-4, 1e-3]}, 2)[0]
    assert len({job.folder for job in both}) == 8 and {job.config.env for job in both} == {"CartPole-v1", "Pendulum-v1"}


@pytest.mark.parametrize("words, sentence", [
    (["lr"], "--set lr: a value is missing; write lr=A or lr=A,B,C"),
    (["lr=1e-4,"], "--set lr=1e-4,: a value is missing"),
    (["leanring_rate=1"], "--set leanring_rate=1: there is no hyperparameter leanring_rate"),
    (["bach_size=8"], "--set bach_size=8: there is no hyperparameter bach_size; did you mean batch_size\\?"),
    (["lr=fast"], "--set lr=fast: --lr must be a number, not fast"),
    (["steps=1e3"], "--set steps=1e3: --steps must be a whole number, not 1e3"),
    (["size=12"], "--set size=12: --size must be one of 1m, 12m, .*; did you mean 12m\\?"),
    (["standardize=maybe"], "--set standardize=maybe: standardize must be true or false, not maybe"),
    (["lr=1e-4,0.0001"], "--set lr=1e-4,0.0001: a value is there twice"),
    (["lr=1e-4", "lr=1e-3"], "--set lr=1e-3: lr is set twice"),
    (["seed=0,1"], "--set seed=0,1: a sweep does not vary seed; --seeds 3 runs"),
    (["env=Acrobot-v1"], "--set env=Acrobot-v1: a sweep does not vary env; name the lessons"),
    (["output=here"], "--set output=here: a sweep does not vary output"),
    (["resume=false"], "--set resume=false: a sweep does not vary resume"),
    (["lr=1e-4,-1"], "02_dreamer_cartpole with lr=-1.0: --lr must be above 0, not -1.0"),
    (["lr=nan"], "02_dreamer_cartpole with lr=nan: --lr must be a finite number"),
    (["batch_size=16,500", "capacity=2000,100"], "02_dreamer_cartpole with batch_size=16 capacity=100: --capacity ")])
def test_a_bad_grid_is_one_sentence_before_anything_begins(course, words, sentence):
    with pytest.raises(SystemExit, match=f"^error: {sentence}[^\n]*$"):
        run(*(part for word in words for part in ("--set", word)))
    assert not (course / "runs").exists()


@pytest.mark.parametrize("flags, sentence", [
    (["--seeds", "0"], "--seeds must be at least 1, not 0"),
    (["--name", "x"], "--name is the folder of a sweep; give --set or --seeds, too"),
    (["--seeds", "2", "--name", "../x"], "--name ../x must be the name of a folder: "),
    (["--seeds", "2", "--plots"], "a sweep writes into runs/sweeps alone; --collect draws "),
    (["--seeds", "2", "--assets", "x"], "a sweep writes into runs/sweeps alone; ")])
def test_bad_flags_are_one_sentence(course, flags, sentence):
    with pytest.raises(SystemExit, match=f"^error: {sentence}[^\n]*$"):
        run(*flags)
    assert not (course / "runs").exists()


@pytest.mark.parametrize("argv", [["02", "--set", "lr=1,2", "--seeds", "3"], ["--set", "lr=1,2", "--seeds", "3", "02"],
                                  ["--set", "lr=1,2", "02", "--seeds", "3"]])
def test_lessons_may_stand_anywhere(argv):
    options = train_all.read_options(argv)
    assert (options.names, options.set, options.seeds) == (["02_dreamer_cartpole"], ["lr=1,2"], 3)


def test_every_field_is_swept_or_refused_with_a_reason():
    """A new hyperparameter can be swept at once."""
    for name, value in vars(Config()).items():
        if name in sweeps.REFUSED:
            with pytest.raises(ConfigError, match=sweeps.REFUSED[name].partition(";")[0]):
                sweeps.read_grid([f"{name}={value}"])
        elif value != "":
            assert sweeps.read_grid([f"{name}={value}"]) == {name: [value]}


# ------------------------------------------------------------------ the picture

def test_the_picture_shows_every_seed_the_means_and_the_curves(course):
    run("02", "--set", "lr=1e-4,3e-4", "--seeds", "3")
    grid = sweeps.read_grid(["lr=1e-4,3e-4"])
    jobs = sweeps.plan(["02_dreamer_cartpole"], course / "runs" / "sweeps" / "02-lr", grid, 3)[0]
    left, right = sweeps.picture(jobs, grid).axes
    dots = [line for line in left.get_lines() if line.get_marker() == "o"]
    assert [line.get_ydata().tolist() for line in dots] == [[110, 111, 112], [310, 311, 312]]
    assert [line.get_xdata()[0] for line in dots] == [0, 1]
    assert [segment[0][1] for lines in left.collections for segment in lines.get_segments()] == [111, 311]
    assert [text.get_text() for text in left.get_xticklabels()] == ["lr=0.0001", "lr=0.0003"]
    means = {line.get_label(): line.get_xydata().tolist() for line in right.get_lines() if line.get_linewidth() > 1}
    assert means == {"lr=0.0001": [[1000, pytest.approx(11.1)], [2000, 111]],
                     "lr=0.0003": [[1000, pytest.approx(31.1)], [2000, 311]]}
    assert len(right.get_lines()) == 8


def test_a_lesson_without_behaviour_shows_its_error_and_its_loss(tmp_path):
    """Lesson 1 has no policy: its score is the error of the world model, its curve the loss over updates."""
    jobs = sweeps.plan(["01_world_model_demo"], tmp_path, {"lr": [1e-4]}, 1)[0]
    for job, ratio in zip(jobs, (0.25, 0.5)):
        job.folder.mkdir(parents=True)
        summary = {"task": job.task, "seed": 0, "steps": job.config.steps, "ratio": ratio, "updates": 20, "seconds": 3}
        (job.folder / "summary.json").write_text(json.dumps(summary))
        (job.folder / "metrics.jsonl").write_text(
            '{"updates": 10, "loss_rec": 0.5}\n{"updates": 20, "loss_rec": 0.25}\n')
    text = sweeps.write(tmp_path, jobs, {"lr": [1e-4]})
    assert "error of the world model" in text
    assert ["0.0001", "0.25", "0.25"] in [line.split() for line in text.splitlines()]
    assert [row["score"] for row in rows(tmp_path)] == ["0.25", "0.5"]
    axes = sweeps.picture(jobs, {"lr": [1e-4]}).axes
    assert len(axes) == 4 and axes[1].get_lines()[0].get_xydata().tolist() == [[10, 0.5], [20, 0.25]]

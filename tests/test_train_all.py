"""train_all.py with lessons that are done at once: skipping, resuming, failing, storing; and one real lesson."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import train_all
from dreamer.tools import live
from dreamer.training import checkpoint, experiments, paths, results
from dreamer.training.shipping import load_agent
from dreamer.visual import curves

ROOT = Path(train_all.__file__).resolve().parent
# A lesson as train_all.py sees it. As a script it needs no torch; it notes its process at every start in starts.txt.
FAKE = '''
import json, os, sys, time
from pathlib import Path
if __name__ != "__main__":
    from dreamer.config import Config
    from dreamer.training.bar import Bar
    DEFAULTS, BAR = Config(env="CartPole-v1", steps=2000, eval_every=1000), Bar(final=475)
else:
    flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    seed = int(flags["--seed"])
    folder = Path(flags.get("--output") or Path(__file__).parent / "runs" / f"CartPole-v1-{seed}")
    with open(folder / "starts.txt", "a") as starts:
        starts.write(f"{os.getpid()}\\n")
    with open(folder / "metrics.jsonl", "w") as log:
        for step in (1000, 2000):
            log.write(json.dumps({"step": step, "updates": 1 + step - 1000, "return": 7.25, "seconds": step / 10}) + "\\n")
    BEHAVIOUR
    scores = lambda value: {"greedy": [value], "sampled": [value]}
    config = dict(env="CartPole-v1", steps=2000, seed=seed, threads=1, eval_episodes=20, output=str(folder))
    (folder / "summary.json").write_text(json.dumps({
        "task": "CartPole-v1", "seed": seed, "size": "1m", "steps": 2000, "updates": 376, "seconds": 250.0, "versions": {},
        "evaluations": [{"step": 1000, **scores(400.0)}, {"step": 2000, **scores(480.0 + seed)}],
        "final": scores(470.0 + 5 * seed), "config": config}))
'''


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder with a README and two fake lessons; those are the experiments of this test."""
    for name in ("02_dreamer_cartpole", "03_dreamer_pendulum"):
        write_lesson(tmp_path, name)
    (tmp_path / "04_visualize.py").write_text("import sys; open('looked.txt', 'a').write(sys.argv[3] + ' ')")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("a\n" + "".join(f"{line}\n" for name in ("results", "budgets") for line in results.markers(name)))
    monkeypatch.setattr(experiments, "SCRIPTS", tmp_path)
    monkeypatch.setattr(experiments, "SEEDS", {"02_dreamer_cartpole": 2, "03_dreamer_pendulum": 1})
    monkeypatch.setattr(train_all, "ROOT", tmp_path)
    monkeypatch.setattr(curves, "plot", lambda tasks, path: path.write_text("drawn"))       # see test_results.py
    return tmp_path


def write_lesson(folder, name, behaviour="pass"):
    """The folder of a run depends on the task alone, so the second lesson has another one."""
    task = "Pendulum-v1" if name.startswith("03") else "CartPole-v1"
    text = FAKE.replace("BEHAVIOUR", behaviour).replace("CartPole-v1", task)
    (folder / f"{name}.py").write_text(text)


def starts(course, name):
    path = course / "runs" / name / "starts.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


def stored(course):
    return json.loads((course / "assets" / "results.json").read_text())


def run(*argv):
    return train_all.main([*argv, "--jobs", "2"])


# ------------------------------------------------------------------ running

def test_a_compiled_run_with_two_threads_is_a_run_of_the_experiment_and_its_command_says_so(course, capsys):
    run("02")
    path = course / "runs" / "CartPole-v1-1" / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps({**summary, "config": {**summary["config"], "compile": True, "threads": 2}}))
    assert run("02", "--collect") == 0
    commands = {e["seed"]: e["command"] for e in stored(course)["02_dreamer_cartpole"]}
    assert commands == {0: "python 02_dreamer_cartpole.py --seed 0 --threads 1",
                        1: "python 02_dreamer_cartpole.py --seed 1 --threads 2 --compile"}
    assert run("02", "--collect", "--compile") == 0         # what was made without it is finished, too, and stays what it is
    assert {e["seed"]: e["command"] for e in stored(course)["02_dreamer_cartpole"]} == commands


def test_compile_reaches_every_run(course, monkeypatch):
    for name in ("02_dreamer_cartpole", "03_dreamer_pendulum"):
        write_lesson(course, name, "open(Path(__file__).parent / 'told.txt', 'a').write(' '.join(sys.argv[1:]) + ';')")
    run("--compile")
    told, swept = (course / "told.txt").read_text().split(";")[:-1], []
    assert len(told) == 3 and all(words.endswith("--compile") for words in told)
    monkeypatch.setattr(train_all, "run", lambda options, jobs: swept.extend(jobs))
    run("--set", "lr=1e-3", "--compile")
    assert len(swept) == 2 and all("--compile" in job.script() for job in swept)


def test_everything_runs_and_is_stored_and_published(course, capsys):
    assert run() == 0
    said, kept = capsys.readouterr().out, stored(course)
    assert {name: [e["seed"] for e in entries] for name, entries in kept.items()} == {
        "02_dreamer_cartpole": [0, 1], "03_dreamer_pendulum": [0]}
    entry = kept["02_dreamer_cartpole"][1]
    assert (entry["steps_to_bar"], entry["seconds_to_bar"], entry["cores"]) == (2000, 200, os.cpu_count())
    assert entry["command"] == "python 02_dreamer_cartpole.py --seed 1 --threads 1" and "output" not in entry["config"]
    assert results.blocks(kept)["results"] in (course / "README.md").read_text()
    assert "bar met by 1 of 2:  470.0  475.0" in said and "3 done" in said


def test_finished_runs_are_skipped_and_others_go_on(course, capsys):
    assert run("02") == 0 and not (course / "runs" / "Pendulum-v1-0").exists()
    (course / "runs" / "CartPole-v1-1" / "summary.json").unlink()
    assert run() == 0
    assert [starts(course, name) for name in ("CartPole-v1-0", "CartPole-v1-1", "Pendulum-v1-0")] == [1, 2, 1]


@pytest.mark.parametrize("damage", [
    lambda text: text[:50], lambda text: text.replace('"steps": 2000, "seed"', '"steps": 500, "seed"'), lambda text: "[]"])
def test_a_summary_that_is_damaged_or_of_another_run_does_not_count(course, damage):
    run("03")
    path = course / "runs" / "Pendulum-v1-0" / "summary.json"
    path.write_text(damage(path.read_text()))
    assert run("03") == 0 and starts(course, "Pendulum-v1-0") == 2


def test_a_failed_run_is_named_and_does_not_stop_the_rest(course, capsys):
    write_lesson(course, "02_dreamer_cartpole", 'sys.exit("error: the pole broke") if seed == 0 else None')
    assert run() == 1
    said = capsys.readouterr().out
    assert "failed: 02_dreamer_cartpole, CartPole-v1, seed 0: error: the pole broke (exit code 1)" in said
    assert "bar met by 1 of 2:  475.0" in said and "bar met by 0 of 1:  470.0" in said
    assert [e["seed"] for e in stored(course)["02_dreamer_cartpole"]] == [1] and "03_dreamer_pendulum" in stored(course)


def test_a_lesson_that_cannot_be_read_is_named_and_does_not_stop_the_rest(course, capsys):
    (course / "02_dreamer_cartpole.py").write_text("import nothing_of_that_name")
    assert run() == 1
    said = capsys.readouterr().out
    assert "failed: 02_dreamer_cartpole: 02_dreamer_cartpole.py cannot be read: ModuleNotFoundError" in said
    assert "failed: tables and pictures: 02_dreamer_cartpole.py" in said        # the table of budgets needs every lesson
    assert list(stored(course)) == ["03_dreamer_pendulum"]


def test_pictures_come_without_a_readme(course):
    (course / "README.md").unlink()
    assert run("03") == 0 and (course / "assets" / "03_learning_curve.png").exists()


def test_ctrl_c_ends_all_runs_and_says_how_to_go_on(course, capsys, monkeypatch):
    write_lesson(course, "02_dreamer_cartpole", "time.sleep(60)")
    begun = []

    def impatient(self, last=False):
        begun[:] = [job for job in self.jobs if job.state == "running"] or begun
        if not last and len(begun) == 2:
            raise KeyboardInterrupt
    monkeypatch.setattr(live.Lines, "__call__", impatient)
    assert run("02") == 130
    assert all(job.process.poll() is not None and job.state == "stopped" for job in begun)
    assert "python train_all.py 02 --jobs 2" in capsys.readouterr().err and not (course / "assets").exists()
    (course / "elsewhere").mkdir()
    monkeypatch.chdir(course / "elsewhere")
    assert run("02") == 130
    assert f"python {course / 'train_all.py'} 02 --jobs 2" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_a_terminated_program_leaves_no_run_behind(course):
    write_lesson(course, "03_dreamer_pendulum", "time.sleep(60)")
    code = ("import runpy, sys; from pathlib import Path; from dreamer.training import experiments as e; "
            "e.SCRIPTS, e.SEEDS = Path(sys.argv.pop(1)), {'03_dreamer_pendulum': 1}; "
            f"sys.argv[0] = 'train_all.py'; runpy.run_path({str(ROOT / 'train_all.py')!r}, run_name='__main__')")
    program = subprocess.Popen([sys.executable, "-c", code, str(course), "--runs", str(course / "runs"), "--assets",
                                str(course / "assets")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    line = program.stdout.readline()
    assert "03_dreamer_pendulum" in line
    while not starts(course, "Pendulum-v1-0"):
        assert program.poll() is None
        time.sleep(0.05)
    program.send_signal(signal.SIGTERM)
    assert program.wait(300) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int((course / "runs" / "Pendulum-v1-0" / "starts.txt").read_text()), 0)


# ------------------------------------------------------------------ stored results

def test_results_of_what_was_not_run_are_kept(course):
    others = {"03_dreamer_pendulum": [{"task": "Pendulum-v1", "seed": 7, "steps": 9, "seconds": 3, "curve": {"greedy": []}, "config": {"eval_episodes": 1},
                                       "final": {"greedy": [1.0], "sampled": [1.0]}, "kept": True}],
              "references": [{"task": "CartPole-v1", "seed": 0, "algorithm": "PPO", "lesson": "02_dreamer_cartpole", "steps": 9,
                              "final": {"greedy": [1.0]}, "curve": [[9, 1.0]], "seconds": 3}]}
    results.write(course / "assets" / "results.json", others)
    assert run("02") == 0
    kept = stored(course)
    assert [e["seed"] for e in kept.pop("02_dreamer_cartpole")] == [0, 1] and kept == others


def test_damaged_results_stop_everything_before_it_begins(course):
    path = course / "assets" / "results.json"
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(SystemExit, match="^error: .*results.json is damaged .* it is not overwritten$"):
        run()
    assert path.read_text() == "{" and not (course / "runs").exists()


def test_collect_runs_nothing_and_stores_what_is_finished(course):
    run("02")
    (course / "assets" / "results.json").unlink()
    assert run("--collect") == 0
    assert list(stored(course)) == ["02_dreamer_cartpole"] and not (course / "runs" / "Pendulum-v1-0").exists()


def leave_begun(course, name, **settings):
    (course / "runs" / name).mkdir(parents=True, exist_ok=True)
    checkpoint.save(course / "runs" / name / "checkpoint.pt", {
        "config": {"env": name[:-2], "seed": int(name[-1]), "size": "1m", "output": "somewhere", **settings},
        "updates": 40, "saved_at": 1300, "records": {"seconds": 60.0},
        "evaluations": [{"step": 1000, "greedy": [3.0, 5.0], "sampled": [1.0]}]})


def test_runs_that_are_not_finished_are_stored_until_they_are(course, capsys):
    run("03")
    (course / "runs" / "Pendulum-v1-0" / "summary.json").unlink()
    (course / "assets" / "results.json").unlink()
    leave_begun(course, "Pendulum-v1-0")
    assert run("--collect") == 0
    entry, = stored(course)["unfinished"]
    assert (entry["lesson"], entry["task"], entry["steps"]) == ("03_dreamer_pendulum", "Pendulum-v1", 1300)
    assert entry["curve"]["greedy"] == [[1000, 4.0]] and "output" not in entry["config"] and list(stored(course)) == ["unfinished"]
    (course / "runs" / "Pendulum-v1-0" / "checkpoint.pt").unlink()      # the fake lesson makes none
    assert run("03") == 0 and list(stored(course)) == ["03_dreamer_pendulum"]


def test_a_damaged_checkpoint_of_a_run_that_is_not_finished_is_named(course, capsys):
    run("02")
    (course / "runs" / "Pendulum-v1-0").mkdir()
    (course / "runs" / "Pendulum-v1-0" / "checkpoint.pt").write_bytes(b"no")
    assert run("--collect") == 1 and list(stored(course)) == ["02_dreamer_cartpole"]
    assert re.search("failed: the unfinished run Pendulum-v1-0: .*checkpoint.pt is damaged", capsys.readouterr().out)
    checkpoint.save(course / "runs" / "Pendulum-v1-0" / "checkpoint.pt", {"config": {}})
    assert run("--collect") == 1 and "another version of the course (KeyError)" in capsys.readouterr().out


def test_a_begun_run_with_other_settings_does_not_count(course):
    for changes in ({"lr": 1.0}, {"steps": 500}):
        leave_begun(course, "Pendulum-v1-0", **changes)
        assert run("--collect") == 0 and stored(course) == {}
    leave_begun(course, "Pendulum-v1-0", eval_every=300, compile=True)
    assert run("--collect") == 0 and stored(course)["unfinished"][0]["command"].endswith("--compile")


def test_plots_make_the_same_readme_from_the_stored_results_alone(course):
    run()
    readme, kept = (course / "README.md").read_text(), (course / "assets" / "results.json").read_bytes()
    (course / "README.md").write_text(readme.replace("|", "!"))
    for picture in (course / "assets").glob("*.png"):
        picture.unlink()
    (course / "runs").rename(course / "elsewhere")
    assert run("--plots") == 0
    assert (course / "README.md").read_text() == readme and (course / "assets" / "results.json").read_bytes() == kept
    assert {p.name for p in (course / "assets").glob("*.png")} == {
        "learning_curves.png", "02_learning_curve.png", "03_learning_curve.png"}
    assert starts(course, "CartPole-v1-0") == 0


@pytest.mark.parametrize("flags, sentence", [
    (["07"], "there is no experiment 07; there are 02_dreamer_cartpole, 03_dreamer_pendulum"),
    (["--jobs", "0"], "--jobs must be at least 1, not 0"), (["--plots"], "there is no .*results.json; run python train_all.py")])
def test_bad_input_is_one_sentence(course, flags, sentence):
    with pytest.raises(SystemExit, match=f"^error: {sentence}[^\n]*$"):
        train_all.main(flags)


def test_names_are_numbers_or_files():
    assert train_all.named(["03_dreamer_pendulum.py", "02"]) == ["02_dreamer_cartpole", "03_dreamer_pendulum"]
    assert train_all.named(["0"]) == list(experiments.SEEDS)


def test_lessons_with_optional_packages_run_only_if_they_are_named():
    assert [name[:2] for name in train_all.named([])] == ["01", "02", "03", "05", "06"]
    assert train_all.named(["07"]) == ["07_dreamer_minigrid"] and train_all.named(["08", "02"])[1] == "08_dreamer_walker_walk"


# ------------------------------------------------------------------ agents and pictures of seed 0

def leave_agent(course, name, weight, updates=376):
    """As if the run `name` had saved an agent of one weight."""
    checkpoint.save(course / "runs" / name / "checkpoint.pt", {
        "config": {"env": name[:-2], "seed": int(name[-1]), "output": "somewhere"}, "average": {"weight": torch.tensor([weight])},
        "updates": updates})


def shipped(course, task):
    return checkpoint.load(course / "assets" / "checkpoints" / f"{task}.pt")


def test_agents_of_seed_0_are_shipped_with_their_results(course):
    run()
    for name, weight in (("CartPole-v1-0", 1.0), ("CartPole-v1-1", 2.0)):
        leave_agent(course, name, weight)
    (course / "assets" / "results.json").unlink()           # as if both results were new
    assert run("--collect") == 0
    saved = shipped(course, "CartPole-v1")
    assert saved["average"]["weight"] == 1.0 and saved["config"]["seed"] == 0 and saved["config"]["output"] == ""
    assert [path.name for path in (course / "assets" / "checkpoints").iterdir()] == ["CartPole-v1.pt"]     # the other left none


def test_lesson_4_draws_an_agent_when_it_is_new_and_all_of_them_for_the_plots(course, capsys):
    looked = course / "looked.txt"
    run()
    leave_agent(course, "CartPole-v1-0", 1.0)
    (course / "assets" / "results.json").unlink()
    assert not looked.exists()                              # nothing to look at before
    assert run("--collect") == 0 and looked.read_text() == "CartPole-v1 "
    assert run("--collect") == 0 and looked.read_text() == "CartPole-v1 "           # it is not new any more
    for task in ("Pendulum-v1", "Acrobot-v1"):                                      # no experiment here has the second
        (course / "assets" / "checkpoints" / f"{task}.pt").write_bytes(b"")
    looked.unlink()
    assert run("--plots") == 0 and looked.read_text() == "CartPole-v1 Pendulum-v1 "
    (course / "assets").rename(course / "other")
    for agent in (course / "other" / "checkpoints").iterdir():
        agent.rename(course / agent.name)
    capsys.readouterr()
    assert run("--plots", "--assets", "other") == 0 and looked.read_text() == "CartPole-v1 Pendulum-v1 "
    assert "is missing" not in capsys.readouterr().out                              # nothing is drawn of agents elsewhere
    for name in ("CartPole-v1", "Pendulum-v1", "Acrobot-v1"):
        (course / f"{name}.pt").rename(course / "other" / "checkpoints" / f"{name}.pt")
    (course / "04_visualize.py").write_text("raise SystemExit(1)")
    (course / "other").rename(course / "assets")
    (course / "assets" / "results.json").unlink()
    assert run("--collect") == 1                            # of its agent's result, new again
    assert run("--plots") == 1


def test_the_model_of_a_lesson_that_does_not_act_is_shipped_beside_the_agents(course, monkeypatch):
    write_lesson(course, "01_world_model_demo")
    script = course / "01_world_model_demo.py"
    script.write_text(script.read_text().replace("Bar(final=475)", "1 / 3").replace("else:", """elif "--draw" in sys.argv:
    open("looked.txt", "a").write(" ".join(sys.argv[1:]))
else:"""))
    monkeypatch.setattr(experiments, "SEEDS", {"01_world_model_demo": 2})
    for seed in (0, 1):
        folder = course / "runs" / f"01-CartPole-v1-{seed}"
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps({
            "task": "CartPole-v1", "seed": seed, "steps": 2000, "updates": 376, "seconds": 9.0, "versions": {}, "ratio": 0.2,
            "errors": {"model": [0.1], "no change": [0.5], "constant change": [0.6]}, "config": {"size": "1m", "steps": 2000}}))
        checkpoint.save(folder / "checkpoint.pt", {"config": {"seed": seed}, "average": {"weight": torch.ones(1)}, "updates": 376})
    assert run("--collect") == 0
    assert [str(x.relative_to(course / "assets")) for x in (course / "assets").rglob("*.pt")] == ["world_models/CartPole-v1.pt"]
    assert checkpoint.load(course / "assets" / "world_models" / "CartPole-v1.pt")["config"]["seed"] == 0
    assert (course / "looked.txt").read_text() == "--draw --env CartPole-v1"


def test_an_agent_and_a_model_of_one_task_that_cannot_be_shipped_are_both_named(course, monkeypatch, capsys):
    write_lesson(course, "01_world_model_demo")
    script = course / "01_world_model_demo.py"
    script.write_text(script.read_text().replace("Bar(final=475)", "1 / 3"))
    run("02")
    monkeypatch.setattr(experiments, "SEEDS", {"01_world_model_demo": 1, "02_dreamer_cartpole": 1})
    folder = course / "runs" / "01-CartPole-v1-0"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({
        "task": "CartPole-v1", "seed": 0, "steps": 2000, "updates": 376, "seconds": 9.0, "versions": {}, "ratio": 0.2,
        "errors": {"model": [0.1], "no change": [0.5], "constant change": [0.6]}, "config": {"size": "1m", "steps": 2000}}))
    for place in (folder, course / "runs" / "CartPole-v1-0"):
        (place / "checkpoint.pt").write_bytes(b"no checkpoint")
    (course / "assets" / "results.json").unlink()
    capsys.readouterr()
    assert run("--collect") == 1
    said = capsys.readouterr().out
    assert "failed: the agent of CartPole-v1:" in said and "failed: the model of CartPole-v1:" in said


def test_plots_let_each_lesson_draw_its_shipped_agents_if_it_is_named_or_needs_no_name(course, monkeypatch, capsys):
    run()
    tasks = {"01_world_model_demo": "CartPole-v1", "06_dreamer_lunar_lander": "LunarLander-v3", "07_dreamer_minigrid": "Some-v0"}
    for name, task in {**tasks, "": "Pendulum-v1"}.items():
        folder = course / "assets" / ("world_models" if name.startswith("01") else "checkpoints")
        folder.mkdir(exist_ok=True)
        (folder / f"{task}.pt").write_bytes(b"")
        (course / f"{name or '04_visualize'}.py").write_text(
            "import sys\nif __name__ != '__main__':\n    from dreamer.config import Config\n    from dreamer.training.bar import Bar\n"
            f"    DEFAULTS, BAR, TASKS = Config(), {'0.3' if name.startswith('01') else 'Bar(final=0)'}, ('{task}', 'None-v0')\n"
            "else:\n    open('looked.txt', 'a').write(' '.join(sys.argv[1:]) + ';')")
    monkeypatch.setattr(experiments, "SEEDS", {**experiments.SEEDS, **dict.fromkeys(tasks, 1)})
    looked = course / "looked.txt"
    capsys.readouterr()
    assert run("--plots") == 0
    said = capsys.readouterr().out
    assert "01_world_model_demo, None-v0: assets/world_models/None-v0.pt is missing, its pictures stay as they are" in said
    assert said.count("is missing") == 3 and "Some-v0" not in said          # CartPole's agent, and None-v0 of lessons 1 and 6
    drawn = "--draw --env CartPole-v1;--shipped --env Pendulum-v1;--shipped --env LunarLander-v3;--panel;"
    assert looked.read_text() == drawn              # the model of lesson 1's CartPole, and no agent of it: none is shipped
    looked.write_text("")
    assert run("--plots", "07", "03") == 0 and looked.read_text() == "--shipped --env Pendulum-v1;--dream --env Some-v0;"


@pytest.mark.parametrize("lines, name", [("raise SystemExit(1)", "CartPole-v1"), ("import os; os.kill(os.getpid(), 9)", "Pendulum-v1")])
def test_what_lesson_4_cannot_draw_hides_no_report(course, capsys, lines, name):
    run()
    leave_agent(course, f"{name}-0", 1.0)
    for task in ("CartPole-v1", "Pendulum-v1"):
        (course / "assets" / "checkpoints").mkdir(exist_ok=True)
        (course / "assets" / "checkpoints" / f"{task}.pt").write_bytes(b"")
    (course / "assets" / "results.json").unlink()
    (course / "04_visualize.py").write_text(f"import sys\nif sys.argv[1:] == ['--shipped', '--env', {name!r}]:\n    {lines}")
    capsys.readouterr()
    assert run("--collect") == 1 and "bar met by" in capsys.readouterr().out
    assert run("--plots") == 1


def test_a_shipped_agent_stays_until_the_result_is_another(course):
    run("03")
    leave_agent(course, "Pendulum-v1-0", 1.0)
    run("03")
    leave_agent(course, "Pendulum-v1-0", 2.0)
    run("03")
    assert shipped(course, "Pendulum-v1")["average"]["weight"] == 1.0
    summary = course / "runs" / "Pendulum-v1-0" / "summary.json"
    summary.write_text(summary.read_text().replace("250.0", "260.0"))
    run("03")
    assert shipped(course, "Pendulum-v1")["average"]["weight"] == 2.0


@pytest.mark.parametrize("damage, reason", [
    (lambda path: path.write_bytes(path.read_bytes()[:-9]), "checkpoint.pt "),
    (lambda path: leave_agent(path.parents[2], "Pendulum-v1-0", 1.0, updates=7), "checkpoint.pt is not of the end of its run")])
def test_an_agent_that_cannot_be_shipped_is_named(course, capsys, damage, reason):
    run("03")
    leave_agent(course, "Pendulum-v1-0", 1.0)
    damage(course / "runs" / "Pendulum-v1-0" / "checkpoint.pt")
    assert run("03") == 1
    assert re.search(f"failed: the agent of Pendulum-v1: .*{reason}", capsys.readouterr().out)
    assert not (course / "assets" / "checkpoints").exists() and "03_dreamer_pendulum" in stored(course)


@pytest.mark.parametrize("name", list(experiments.SEEDS))
def test_only_seed_0_in_its_own_folder_draws_into_the_assets(name, tmp_path):
    """The pictures of all others, which have the same names, lie in the folders of their runs."""
    for folder, toy in ((paths.ROOT / "runs", False), (paths.ROOT / "runs", True), (paths.ROOT / "runs" / "quick", True), (tmp_path, False)):
        jobs, unreadable = experiments.plan([name], folder, toy)
        assert jobs and not unreadable
        for plain, compiled in zip(jobs, experiments.plan([name], folder, toy, compiled=True)[0]):
            assert [word for word in compiled.script() if word != "--compile"] == plain.script() and "--compile" in compiled.script()
            assert compiled.command() == plain.command() and compiled.state == plain.state
        for job in jobs:
            own = job.seed == 0 and folder.name == "runs" and not toy
            assert ("--output" not in job.script()) == own
            assert own or job.script()[-1] == str(job.folder) and job.folder.parent == folder


# ------------------------------------------------------------------ the live table

@pytest.fixture
def jobs(course):
    """Three runs: one done, one in the middle, one that waits."""
    jobs, _ = experiments.plan(["02_dreamer_cartpole", "03_dreamer_pendulum"], course / "runs")
    for job, state, updates in zip(jobs, ("done", "running", "waiting"), (501, 126, 0)):
        job.state = state
        job.folder.mkdir(parents=True)
        line = {"step": 1000 + updates, "updates": updates, "return": -3.25, "seconds": updates * 10.0}
        (job.folder / "metrics.jsonl").write_text((json.dumps(line) + "\n" + '{"step": 9, "upd') * bool(updates))
    return jobs


def test_time_left_follows_from_the_updates_so_far(jobs):
    each, together = experiments.time_left(jobs, experiments.progress(jobs), 1)
    assert [job.updates for job in jobs] == [501] * 3
    assert each == [0.0, 375 * 10.0, 501 * 10.0] and together == sum(each)
    assert experiments.time_left(jobs, experiments.progress(jobs), 2)[1] == 5010.0      # not half of all: the longest
    assert experiments.time_left(jobs, [{}] * 3, 2) == ([0.0, None, None], None)


def test_table_shows_every_run(jobs):
    head, done, running, waiting = live.table(jobs, experiments.progress(jobs), 2)
    assert head.split() == ["lesson", "task", "seed", "step", "return", "left"]
    assert done.split() == ["02", "CartPole-v1", "0", "1,501", "/", "2,000", "-3.2", "done"]
    assert running.split()[2:] == ["1", "1,126", "/", "2,000", "-3.2", "1", "h", "02", "min"]
    assert waiting.split() == ["03", "Pendulum-v1", "0", "0", "/", "2,000", "waiting"]
    assert len({line.index("2,000") for line in (done, running, waiting)}) == 1
    text = live.overview(jobs, experiments.progress(jobs), 2, time.monotonic())
    assert text == "1 running, 1 waiting, 1 done; < 1 min so far, 1 h 24 min left"


def test_screen_redraws_in_place_and_fits(jobs, monkeypatch):
    monkeypatch.setattr(live.shutil, "get_terminal_size", lambda: os.terminal_size((60, 24)))
    out = io.StringIO()
    screen = live.Screen(jobs, 2, out)
    screen()
    first = out.getvalue()
    assert first.count("\n") == 6 and "\x1b[6A" not in first
    assert all(len(line.replace("\x1b[K", "").replace("\x1b[J", "")) < 60 for line in first.split("\n"))
    screen(last=True)
    assert out.getvalue() == f"{first}\x1b[6A{first}"
    monkeypatch.setattr(live.shutil, "get_terminal_size", lambda: os.terminal_size((60, 5)))
    screen(last=True)
    small = out.getvalue()[2 * len(first):]
    assert small.removeprefix("\n").count("\n") == 4 and "Pendulum" not in small      # only what is running has room
    words = " ".join(small.split())
    assert " 1 1,126 / " in words and " 0 1,501 / " not in words


def test_without_a_terminal_there_are_plain_lines(jobs):
    out = io.StringIO()
    lines = live.Lines(jobs, 2, out)
    lines()
    assert out.getvalue() == ""
    jobs[1].state = "done"
    lines()
    lines()
    assert out.getvalue().count("\n") == 1 and "CartPole-v1" in out.getvalue() and "\x1b" not in out.getvalue()
    lines.at -= live.EVERY + 1
    lines()
    assert out.getvalue().splitlines()[1].endswith("left")


# ------------------------------------------------------------------ a real lesson

def test_quick_runs_a_real_lesson_and_touches_nothing_of_the_course(tmp_path, capsys):
    files = ("README.md", "assets/results.json", "assets/checkpoints/CartPole-v1.pt")
    before = [(ROOT / name).read_bytes() for name in files]
    assert train_all.main(["--quick", "02", "--jobs", "1", "--runs", str(tmp_path)]) == 0
    assert before == [(ROOT / name).read_bytes() for name in files]
    entry, = json.loads((tmp_path / "assets" / "results.json").read_text())["02_dreamer_cartpole"]
    assert load_agent(tmp_path / "assets" / "checkpoints" / "CartPole-v1.pt")[1].steps == 60
    lesson = experiments.load("02_dreamer_cartpole")
    assert entry["steps"] == 60 and entry["config"]["threads"] == 1
    assert entry["updates"] == experiments.plan(["02_dreamer_cartpole"], tmp_path, toy=True)[0][0].updates > 0
    assert (tmp_path / "assets" / "02_learning_curve.png").exists() and lesson.defaults.steps == 8000
    assert "toy size, not judged" in capsys.readouterr().out
    assert (tmp_path / "assets" / "04_fan_CartPole-v1.png").exists()


def test_quick_fails_where_lesson_4_does(course, capsys):
    (course / "04_visualize.py").write_text("raise SystemExit(1)")
    assert run("--quick", "02") == 1
    assert "failed: 04_visualize.py --shipped --env CartPole-v1 --output" in capsys.readouterr().out


def test_the_table_fits_a_terminal_of_80_columns_and_success_has_three_decimals(tmp_path):
    jobs, _ = experiments.plan(["02_dreamer_cartpole", "07_dreamer_minigrid"], tmp_path)
    lines = [{"step": 940_000, "updates": 60_000, "return": 0.0413, "seconds": 3600.0}] * len(jobs)
    head, *rows = live.table(jobs, lines, 2)
    assert all(len(row) < 80 for row in rows)
    assert len({row.index(whole) + len(whole) for row, job in zip(rows, jobs) for whole in [f" / {job.config.steps:,}"]}) == 1
    assert rows[0].split()[-2:] == ["0.0", "waiting"] and rows[-1].split()[-2:] == ["0.041", "waiting"]

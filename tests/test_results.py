"""assets/results.json, the README's tables and the pictures tell the same story, and runs give their summaries."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import train_all
from dreamer.config import Config
from dreamer.tools import ablations
from dreamer.training import checkpoint, experiments, results, shipping, tables
from dreamer.training.bar import Bar
from dreamer.visual import curves

ROOT = Path(train_all.__file__).resolve().parent
BUDGET = {"env", "steps", "size", "eval_every", "eval_episodes", "final_episodes"}              # a lesson's own
OWN = {"walker_walk": {"checkpoint_every", "envs"}, "walker_walk-proprio": {"checkpoint_every"},
       "MiniGrid-FourRooms-v0": {"checkpoint_every", "log_every", "envs", "train_ratio"}}       # of these tasks, too
MACHINE = {"seed", "device", "threads", "compile", "async_envs"}                                              # of one run's own


def summary(seed=0):
    scores = [{"step": step, "greedy": [400.0, 500.0], "sampled": [300.0]} for step in (5000, 6000)]
    return {"task": "CartPole-v1", "seed": seed, "size": "1m", "steps": 8000, "updates": 7, "seconds": 90.4,
            "config": asdict(Config(output="somewhere")), "versions": {}, "evaluations": scores,
            "final": {"greedy": [450.0, 500.0], "sampled": [480.0]}}


def reference(seed, score):
    return {"lesson": "02_dreamer_cartpole", "task": "CartPole-v1", "algorithm": "PPO", "seed": seed, "steps": 8000,
            "final": {"greedy": [score, score]}, "curve": [[4000, 100.0], [8000, score]], "seconds": 30,
            "command": "c", "versions": {}}


def differing(config, other):
    return {name for name, value in config.items() if other[name] != value}


# ------------------------------------------------------------------ what is published

@pytest.mark.parametrize("name", ["lessons", "budgets", "results"])
def test_readme_agrees_with_results(name):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    begin, end = results.markers(name)
    shown = text.split(begin)[1].split(end)[0].strip()
    assert shown == results.blocks(results.read(ROOT / "assets"))[name]


@pytest.mark.parametrize("name", experiments.SEEDS)
def test_lessons_differ_in_their_budgets_only(name):
    lesson = experiments.load(name)
    for task in lesson.tasks:
        found = differing(asdict(lesson.of(task).defaults), asdict(Config()))
        assert found - BUDGET == OWN.get(task, set())


def test_every_stored_run_is_of_an_experiment_and_has_the_shared_hyperparameters():
    """Seeds may be missing, and the README then says how many; none is there twice, and none has its own settings."""
    stored = results.read(ROOT / "assets")
    assert set(stored) <= {*experiments.SEEDS, "references", "unfinished"}
    for entry in stored.get("unfinished", []):
        lesson = experiments.load(entry["lesson"]).of(entry["task"])
        assert entry["steps"] < lesson.defaults.steps and entry["seed"] < experiments.SEEDS[entry["lesson"]]
        others = differing(entry["config"], asdict(lesson.defaults)) - (
            MACHINE | {"eval_every", "eval_episodes"} | ({"steps"} if "final" in entry else set()))
        assert not others
    for name, seeds in experiments.SEEDS.items():
        entries, tasks = stored.get(name, []), experiments.load(name).tasks
        runs = [(e["task"], e["seed"]) for e in entries]
        assert len(set(runs)) == len(runs) and set(runs) <= {(task, s) for task in tasks for s in range(seeds)}
        for entry in entries:
            lesson = experiments.load(name).of(entry["task"])
            assert entry["steps"] == lesson.defaults.steps and entry["updates"] == lesson.updates(lesson.defaults)
            if lesson.acts:
                assert differing(entry["config"], {**asdict(lesson.defaults)}) <= MACHINE


@pytest.mark.parametrize("late, final, meets", [(500.0, 500.0, True), (100.0, 500.0, False), (500.0, 400.0, False)])
def test_a_bar_is_met_as_a_whole(late, final, meets):
    """Lesson 2 wants the end *and* the window of evaluations before it."""
    curve = [[step, late] for step in (5000, 6000, 7000, 8000)]
    entry = {"seed": 0, "task": "CartPole-v1", "curve": {"greedy": curve}, "final": {"greedy": [final]}}
    lesson = experiments.load("02_dreamer_cartpole")
    assert tables.meets(lesson, entry) is meets
    assert tables.outcome(lesson, [entry]) == f"{int(meets)} of 1 seeds (4 not run yet), worst {final}"


# ------------------------------------------------------------------ entries

def test_entry_keeps_scores_and_no_path():
    entry = results.entry(summary(), "python x.py", 475, [(4000, 40.0), (5500, 55.0)])
    assert entry["curve"]["greedy"] == [[5000, 450.0], [6000, 450.0]]
    assert "output" not in entry["config"] and entry["final"]["greedy"] == [450.0, 500.0]
    assert entry["steps_to_bar"] is None and entry["seconds_to_bar"] is None


def test_entry_knows_steps_and_seconds_to_the_bar():
    entry = results.entry(summary(), "c", 450, [(4000, 40.0), (5500, 70.0)])
    assert (entry["steps_to_bar"], entry["seconds_to_bar"]) == (5000, 60)
    assert results.entry(summary(), "c", 450)["seconds_to_bar"] is None


@pytest.mark.parametrize("scores, step", [
    ([1, 5, 4, 6, 7], 4), ([5, 5, 5, 5, 5], 1), ([9, 9, 9, 9, 4], None), ([1, 1, 1, 1, 5], 5), ([], None)])
def test_the_bar_is_reached_where_it_is_never_lost_again(scores, step):
    assert tables.steps_to_bar(list(enumerate(scores, 1)), 5) == step


def test_a_world_model_keeps_its_errors():
    said = {"task": "CartPole-v1", "seed": 1, "steps": 2000, "updates": 750, "seconds": 60.2, "ratio": 0.25,
            "errors": {"model": [0.1, 0.2], "no change": [0.5, 0.8], "constant change": [0.4, 0.9]}}
    entry = results.entry(said, "c")
    assert entry["errors"] == said["errors"] and entry["seconds"] == 60 and "curve" not in entry
    text = results.blocks({"01_world_model_demo": [entry]})["results"]
    assert "error 2 steps ahead" in text and "| CartPole-v1 | 1 | 2,000 | 0.200 | 0.800 | 0.900 | 0.25 | 1.0 |" in text


def test_held_is_the_mean_of_the_late_evaluations():
    assert tables.held([[4000, 0.0], [5000, 400.0], [8000, 500.0]], 8000) == 450.0


# ------------------------------------------------------------------ storing

def test_merging_replaces_the_same_task_and_seed_and_keeps_the_rest():
    def entries(*parts):
        return [{"task": task, "seed": seed, "value": value} for task, seed, value in parts]
    stored = {"03": entries(("P", 0, "old")), "02": entries(("C", 0, "old"), ("C", 2, "old")), "references": [{"x": 1}]}
    merged = results.merge(stored, {"02": entries(("C", 2, "new"), ("C", 1, "new")), "01": entries(("C", 0, "new"))})
    assert merged == {"01": entries(("C", 0, "new")), "03": entries(("P", 0, "old")), "references": [{"x": 1}],
                      "02": entries(("C", 0, "old"), ("C", 1, "new"), ("C", 2, "new"))}
    assert list(merged) == ["01", "02", "03", "references"]


def test_a_task_with_a_finished_run_has_nothing_unfinished():
    def part(task, seed, steps):
        return {"lesson": "02", "task": task, "seed": seed, "steps": steps}
    merged = results.merge({"unfinished": [part("C", 0, 10), part("P", 1, 10)]}, {"unfinished": [part("C", 0, 20), part("C", 1, 5)]})
    assert merged == {"unfinished": [part("C", 0, 20), part("C", 1, 5), part("P", 1, 10)]}
    merged = results.merge(merged, {"02": [{"task": "C", "seed": 0}], "unfinished": [part("C", 1, 9)]})
    assert merged == {"02": [{"task": "C", "seed": 0}], "unfinished": [part("P", 1, 10)]}
    assert "unfinished" not in results.merge(merged, {"02": [{"task": "P", "seed": 0}], "unfinished": []})
    # another lesson of the same task says nothing of this one
    assert results.merge(merged, {"01": [{"task": "P", "seed": 0}]})["unfinished"] == [part("P", 1, 10)]


@pytest.mark.parametrize("text", ["{ not json", "[]", '{"02": 3}', '{"02": [{"seed": 1}]}', "\udcff",
    '{"02_dreamer_cartpole": [{"task": "CartPole-v1", "seed": 0, "steps": 8, "seconds": 1, "curve": {"greedy": [[1, 5.0]]}, "config": {}}]}',
    '{"references": [{"task": "CartPole-v1", "seed": 0, "steps": 8, "seconds": 1, "curve": [], "final": {}, "lesson": "02_dreamer_cartpole"}]}',
    '{"unfinished": [{"task": "CartPole-v1", "seed": 0, "steps": 8, "seconds": 1, "curve": {"greedy": []}, "lesson": "02_dreamer_cartpole"}]}'])
def test_damaged_results_are_named_and_left_alone(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SystemExit, match="results.json is damaged"):
        results.publish(tmp_path)
    assert path.read_bytes() == text.encode(errors="surrogateescape")


def test_a_failed_write_leaves_the_results_as_they_were(tmp_path):
    path = tmp_path / "results.json"
    results.write(path, {"02": []})
    with pytest.raises(TypeError):
        results.write(path, {"02": [object()]})
    assert results.read(tmp_path) == {"02": []} and [p.name for p in tmp_path.iterdir()] == ["results.json"]


# ------------------------------------------------------------------ tables and pictures

def publish(tmp_path, stored, readme):
    (tmp_path / "README.md").write_text(readme, encoding="utf-8")
    results.write(tmp_path / "assets" / "results.json", stored)
    results.publish(tmp_path / "assets")
    return (tmp_path / "README.md").read_text(encoding="utf-8")


def test_publish_writes_table_and_pictures(tmp_path):
    readme = "before é\n{}\nold\n{}\nafter\n".format(*results.markers("results"))
    text = publish(tmp_path, {"02_dreamer_cartpole": [results.entry(summary(3), "c")]}, readme)
    assert "old" not in text and "| CartPole-v1 | 3 | 8,000 | 475.0 (450) | 480.0 | 450.0 | never | 1.5 |" in text
    assert text.startswith("before é") and text.endswith("after\n")
    for name in ("learning_curves.png", "02_learning_curve.png"):
        assert (tmp_path / "assets" / name).stat().st_size > 1000


def test_a_lesson_of_several_tasks_has_one_picture_with_all_of_them_in_its_own_order(tmp_path, monkeypatch):
    lesson, drawn = "07_dreamer_minigrid", {}
    entries = [{**results.entry(summary(), "c"), "task": task} for task in sorted(experiments.load(lesson).tasks)]
    monkeypatch.setattr(results.curves, "plot", lambda tasks, path: drawn.update({path.name: [task for _, task, *_ in tasks]}))
    publish(tmp_path, {lesson: entries}, "nothing\n")
    assert drawn["07_learning_curve.png"] == drawn["learning_curves.png"] == list(experiments.load(lesson).tasks)
    assert list(experiments.load(lesson).tasks) != [e["task"] for e in entries]


def test_a_begun_run_is_judged_as_its_lesson_judges(tmp_path):
    """By success where that is the bar: two of four episodes, whatever their returns."""
    job = experiments.plan(["07_dreamer_minigrid"], tmp_path)[0][-1]
    assert results.begun(job) == []
    job.folder.mkdir()
    checkpoint.save(job.folder / "checkpoint-previous.pt", {         # as a kill between two renamings leaves it
        "config": asdict(job.config), "saved_at": 900, "updates": 5, "records": {"seconds": 3.0},
        "hardware": {"processor": "P", "cores": 3, "gpu": "G"},
        "evaluations": [{"step": 800, "greedy": [0.0, 0.6, 0.9, 0.0], "sampled": [0.2]}]})
    entry, = results.begun(job)
    assert entry["curve"] == {"greedy": [[800, 0.5]], "sampled": [[800, 1.0]]} and entry["steps"] == 900
    assert entry["gpu"] == "G" and tables.minutes_of(entry) == "0.1 (G)"            # where it was made, not where it is collected
    assert tables.minutes_of({"seconds": 90, "command": "c --compile"}) == "1.5 (compiled)"
    assert tables.minutes_of({"seconds": 90, "config": {"threads": 2}}) == "1.5 (2 threads)"
    assert tables.minutes_of({"seconds": 90, "config": {"threads": 1}}) == "1.5"


def test_a_run_planned_with_fewer_steps_is_stored_as_what_it_is(tmp_path):
    """With the command that makes it and the GPU that made it; a longer one, and one with another recipe, are not."""
    job = experiments.plan(["08_dreamer_walker_walk"], tmp_path)[0][0]
    job.folder.mkdir()
    made = {"config": {**asdict(job.config), "steps": 900, "async_envs": True, "threads": 2}, "steps": 904, "updates": 5, "seconds": 60.0, "seed": 0,
            "task": job.task, "size": "1m", "versions": {}, "evaluations": [], "final": {"greedy": [700.0, 500.0], "sampled": [1.0]},
            "hardware": {"processor": "P", "cores": 3, "gpu": "G"}}
    write = lambda **changes: (job.folder / "summary.json").write_text(json.dumps({**made, **changes}))
    write()
    found, = results.begun(job)
    assert found["command"] == f"{job.command()} --steps 900 --async-envs".replace("--threads 1", "--threads 2") and (found["processor"], found["gpu"]) == ("P", "G")
    other = experiments.Job(job.lesson, job.task, 0, tmp_path, ["--compile"])
    assert other.command({"config": {**asdict(other.config), "compile": False, "eval_episodes": 3}}) == (
        f"{other.command()} --eval-episodes 3 --no-compile")
    assert tables.how_far(job.lesson, [found]) == "not run to the end: seed 0 planned with 904 steps, 1 minutes on one G (600.0 at the end)"
    for changes in ({"lr": 1.0}, {"envs": 3}):
        write(config={**made["config"], **changes})
        assert results.begun(job) == []
    write(config={**made["config"], "steps": 10 ** 7}, steps=10 ** 7)
    assert results.begun(job) == []


def test_a_task_without_a_finished_run_shows_how_far_others_came(tmp_path):
    """Its curve and its row; no stopped run has results."""
    from matplotlib.figure import Figure

    from dreamer.visual import curves
    entry = {"lesson": "08_dreamer_walker_walk", **results.entry(summary(), "c"), "task": "walker_walk", "steps": 6000}
    del entry["final"]
    rooms = {**entry, "lesson": "07_dreamer_minigrid", "task": "MiniGrid-FourRooms-v0", "curve": {"greedy": [[5000, 0.15]]}}
    stored = {"02_dreamer_cartpole": [results.entry(summary(), "c")], "unfinished": [entry, rooms]}
    blocks = results.blocks(stored)
    assert "| not run to the end: seed 0 stopped after 6,000 steps, 2 minutes (15% at 5,000) | [curve](assets/07_" in blocks["lessons"]
    assert "| not run to the end: seed 0 stopped after 6,000 steps, 2 minutes (450.0 at 6,000) | [curve](assets/08_" in blocks["lessons"]
    assert "(4 not run yet), worst 475.0" in blocks["lessons"] and blocks["lessons"].count("stopped") == 2
    assert "walker_walk" not in blocks["results"]
    axis = Figure().subplots()
    drawn, _ = results.stopped(stored)
    beside, (lesson, task, *_) = Figure().subplots(), drawn
    curves.draw(beside, lesson, task, [{**entry, "final": {}}], [])
    assert beside.get_lines()[0].get_label() == "seed 0, fewer steps"
    curves.draw(axis, *drawn)
    assert [line.get_label() for line in axis.get_lines()] == ["seed 0, stopped", "bar 800"]
    assert axis.get_xlim()[1] >= entry["config"]["steps"] > entry["steps"]      # room for what is still to come
    publish(tmp_path, stored, "nothing\n")
    assert (tmp_path / "assets" / "08_learning_curve.png").exists()


def test_the_worst_success_is_that_of_either_way_to_act():
    lesson = experiments.load("07_dreamer_minigrid").of("MiniGrid-FourRooms-v0")
    found = {"final": {"greedy": [0.5, 0.5, 0.0, 0.0], "sampled": [0.5, 0.0, 0.0, 0.0]}, "curve": {"greedy": []}}
    assert tables.outcome(lesson, [found]) == "0 of 1 seeds (2 not run yet), worst 25%"
    job = next(job for job in experiments.plan(["07_dreamer_minigrid"], ROOT)[0] if job.task == "MiniGrid-FourRooms-v0")
    assert train_all.verdict(job, found) == (0.25, False)


@pytest.mark.parametrize("values, said", [([111.2], "111"), ([100.0, 122.0], "111 [100 to 122]"), ([1.9, 2.4], "2")])
def test_values_that_are_written_alike_have_no_spread(values, said):
    assert tables.spread(values, ".0f") == said


def test_publish_fills_only_the_blocks_whose_markers_exist(tmp_path):
    stored = {"02_dreamer_cartpole": [results.entry(summary(), "c")]}
    readme = "a\n{}\nold\n{}\nb\n".format(*results.markers("budgets"))
    text = publish(tmp_path, stored, readme)
    assert text == readme.replace("old", tables.budgets()) and "| 02 | CartPole-v1 | 1m | 1 | 8,000 | 128 | 3,501 |" in text
    assert "| 07 | MiniGrid-FourRooms-v0 | 1m | 16 | 960,000 | 16 | 59,938 |" in text
    assert publish(tmp_path, stored, "nothing\n") == "nothing\n"
    assert publish(tmp_path, stored, results.markers("results")[0]) == results.markers("results")[0]


def test_references_stand_below_their_task_with_their_spread():
    stored = {"02_dreamer_cartpole": [results.entry(summary(), "c")], "references": [reference(0, 480.0), reference(1, 500.0)]}
    last = results.blocks(stored)["results"].splitlines()[-1]
    assert last == ("| CartPole-v1, PPO | 2 seeds | 8,000 | 490.0 [480.0 to 500.0] | - | 490.0 [480.0 to 500.0] "
                    "| 8,000 | 0.5 |")
    stored["references"][0] = reference(0, 200.0)
    assert "| 1 of 2 seeds |" in results.blocks(stored)["results"].splitlines()[-1]


def test_a_task_with_random_play_has_a_line_of_chance_and_equal_curves_do_not_hide_each_other():
    from matplotlib.figure import Figure
    lesson = experiments.load("07_dreamer_minigrid").of("MiniGrid-DoorKey-5x5-v0")
    entry = results.entry(summary(), "c", score=lesson.bar.score)
    entries = [{**entry, "seed": 0, "random": [0.9, 0.0]}, {**entry, "seed": 1, "random": [0.0, 0.0]}]
    axis = Figure().subplots()
    curves.draw(axis, lesson, "MiniGrid-DoorKey-5x5-v0", entries, [])
    found = {line.get_label(): line for line in axis.get_lines()}
    assert set(found["chance"].get_ydata()) == {0.25}       # a share of episodes, not their mean return
    assert found["seed 0"].get_linewidth() > found["seed 1"].get_linewidth()


def test_references_are_one_grey_dashed_curve_per_algorithm():
    from matplotlib.figure import Figure

    from dreamer.visual import curves
    axis = Figure().subplots()
    stored = {"02_dreamer_cartpole": [results.entry(summary(), "c")], "references": [reference(0, 480.0), reference(1, 500.0)]}
    curves.draw(axis, *next(results.acting(stored)))
    line = next(line for line in axis.get_lines() if "PPO" in line.get_label())
    assert line.get_color() == "0.5" and line.is_dashed() and line.get_xydata().tolist() == [[4000, 100], [8000, 490]]
    assert sum(line.get_label().startswith("seed") for line in axis.get_lines()) == 1


def test_minutes_say_whether_a_run_was_compiled():
    assert tables.minutes_of({"seconds": 90, "command": "python x.py --compile --seed 0"}) == "1.5 (compiled)"
    assert tables.minutes_of({"seconds": 90, "command": "python x.py"}) == tables.minutes_of({"seconds": 90}) == "1.5"


@pytest.mark.parametrize("bar, judged, wanted", [
    (None, "return, mean", {"greedy": [0.5, 3.0], "sampled": [0.0, 1.0]}),
    (Bar(final=2), "return, mean", {"greedy": [0.5, 3.0], "sampled": [0.0, 1.0], "bar 2": [2, 2]}),
    (Bar(success=0.9), "success", {"greedy": [0.5, 1.0], "sampled": [0.0, 0.5], "bar 0.9": [0.9, 0.9]})])
def test_a_run_has_a_curve_of_its_own(bar, judged, wanted):
    evaluations = [{"step": 10, "greedy": [0.0, 1.0], "sampled": [0.0, 0.0]}, {"step": 20, "greedy": [2.0, 4.0], "sampled": [0.0, 2.0]}]
    axis, = curves.own({"task": "Toy", "seed": 3, "evaluations": evaluations}, bar).axes
    assert {line.get_label(): list(line.get_ydata()) for line in axis.get_lines()} == wanted
    assert list(axis.get_lines()[0].get_xdata()) == [10, 20] and axis.get_ylabel() == f"{judged} of 2 episodes"
    assert curves.own({"evaluations": []}, bar) is None


def test_what_is_shipped_of_a_task_is_seed_0_of_its_stored_runs():
    """Whoever looks at a shipped agent or model looks at a run whose scores the README shows."""
    for name, entries in results.read(ROOT / "assets").items():
        for entry in entries if name in experiments.SEEDS else ():
            if entry["seed"] == 0:
                lesson = experiments.load(name)
                saved = checkpoint.load(shipping.place(lesson, entry["task"], ROOT / "assets"))
                assert saved["updates"] == entry["updates"] and differing(entry["config"], saved["config"]) <= MACHINE


# ------------------------------------------------------------------ numbers in the README's own sentences

def in_order(values, form="{:.0f}"):
    """125, 83 and 67"""
    *others, last = map(form.format, values)
    return f"{', '.join(others)} and {last}" if others else last


def test_scores_in_sentences_are_those_of_the_results():
    stored = results.read(ROOT / "assets")
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())

    def scores(entries, task, mode="greedy", **others):
        return [np.mean(np.array(e["final"][mode]) > 0) * 100 if task.startswith("MiniGrid") else np.mean(e["final"][mode])
                for e in entries if e["task"] == task and others.items() <= e.items()]
    lander = stored["06_dreamer_lunar_lander"]
    assert f"{in_order(scores(lander, 'LunarLander-v3'))} at the end" in text
    assert f"(DQN after as many steps: {in_order(scores(stored['references'], 'LunarLander-v3', algorithm='DQN'))})" in text
    trained, = {e["steps_trained"] for e in stored["references"] if e["task"] == "CartPole-v1"}
    assert f"(on CartPole for {trained:,}: the library" in text
    rooms = stored["07_dreamer_minigrid"]
    for mode in ("greedy", "sampled"):
        assert f"{in_order(scores(rooms, 'MiniGrid-FourRooms-v0', mode))} % ({mode})" in text
    first, second = scores(stored["08_dreamer_walker_walk"], "walker_walk-proprio")
    assert f"a mean of {first:.0f} of 1000 after 250,000 frames with seed 0, and {second:.0f} with seed 1" in text
    seen, = (e for e in stored["08_dreamer_walker_walk"] if e["task"] == "walker_walk")         # "one seed"
    greedy, (sampled,) = seen["final"]["greedy"], scores([seen], "walker_walk", "sampled")
    assert (f"From pictures it gets {np.mean(greedy):.0f} (worst of {len(greedy)} episodes {min(greedy):.0f}; {sampled:.0f} sampled) "
            f"after {seen['steps']:,} steps, {2 * seen['steps']:,} frames: one seed") in text
    assert f"every 12,500 steps: {', '.join(f'{score:.0f}' for _, score in seen['curve']['greedy'])}. " in text


def test_what_the_readme_says_of_the_parts_taken_away_is_what_came_of_them():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    without, curves_of, of_today = {}, {}, asdict(Config())
    for e in json.loads((ROOT / "assets" / "07_ablations.json").read_text(encoding="utf-8")):
        assert e["values"] == {name: of_today[name] for name in e["values"]}
        rates = tuple(round(100 * e[mode]) for mode in ("greedy", "sampled"))
        without.setdefault(e["without"], {}).setdefault(e["task"].split("-")[1], []).append(rates)
        curves_of[e["without"], e["task"].split("-")[1], e["seed"]] = e["curve"]
    rooms = {part: tasks.pop("FourRooms") for part, tasks in without.items() if "FourRooms" in tasks}
    assert set(rooms) == {"nothing", "memory"} and len(rooms["memory"]) == 1
    (greedy, sampled), = rooms["memory"]
    assert f"was *trained* without memory (one seed) ends at {greedy} % greedy and {sampled} % sampled" in text
    assert set(without) == {"nothing", *ablations.WITHOUT} and all(set(tasks) == {"Empty", "DoorKey"} for tasks in without.values())
    whole, reconstruction, two_hot = (without.pop(part) for part in ("nothing", "reconstruction", "two-hot"))
    assert all(len(seeds) == 3 for seeds in whole.values()) and "all end at 100 % (two seeds each)" in text
    assert all(seeds == [(100, 100)] * 2 for tasks in without.values() for seeds in tasks.values())
    assert all(greedy == 0 for seeds in reconstruction.values() for greedy, _ in seeds) and "all four agents end at 0 % greedy" in text
    (_, a), (_, b), (_, c), (_, d) = reconstruction["Empty"] + reconstruction["DoorKey"]
    assert f"(sampled {a} and {b} % on Empty, {c} and {d} % on DoorKey: no more than chance)" in text
    (a, _), (b, _) = two_hot["DoorKey"]
    (c, _), (d, e) = two_hot["Empty"]
    assert f"Without two-hot DoorKey ends at {a} and {b} %, and one of two agents of Empty falls from 100 to {d} % greedy" in text
    assert f"at the last evaluation ({e} % sampled at the end)" in text and c == 100
    assert [round(100 * greedy) for _, greedy, _ in curves_of["two-hot", "Empty", 1][-2:]] == [100, d]


def test_what_made_runs_faster_is_told_of_as_many_as_it_is_true_of():
    plain, compiled, card = {"command": "python x.py"}, {"command": "python x.py --compile"}, {"command": "python x.py", "gpu": "H100"}
    assert [tables.how_fast(runs) for runs in ([plain], [compiled] * 2, [plain, compiled], [card, {**card, **compiled}])] == [
        "", " (compiled)", " (1 of 2 compiled)", " (H100, 1 of 2 compiled)"]

"""Lesson 7: what the agent sees of MiniGrid, what chance and the best play get, and the script from the outside."""

import copy
import importlib
import json
import re
import shlex
import sys
from collections import deque
from dataclasses import asdict, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dreamer.agent import Agent
from dreamer.distributions import Draw
from dreamer.tools import ablation_study, ablations, grid_play
from dreamer.training import cli, envs, experiments, paths, results, tables
from dreamer.training.checkpoint import CheckpointError
from dreamer.training.bar import Bar, share_above_0
from dreamer.training.envs import Environments, TaskError
from dreamer.training.loop import derived_seed
from dreamer.training.shipping import load_agent
from dreamer.training.validate import ConfigError
from dreamer.visual import grids, triptych
from dreamer.visual.episodes import record
from toys import load_lesson, tiny

EMPTY, DOORKEY, ROOMS = "MiniGrid-Empty-5x5-v0", "MiniGrid-DoorKey-5x5-v0", "MiniGrid-FourRooms-v0"
SMALL = shlex.split("--steps 40 --prefill 20 --batch-size 2 --batch-length 8 --starts 4 --imagination-horizon 2 "
                    "--stoch 4 --train-ratio 4 --log-every 20 --eval-every 40 --eval-episodes 1 --final-episodes 2 "
                    "--device cpu")
needs_minigrid = pytest.mark.skipif(not importlib.util.find_spec("minigrid"), reason="MiniGrid is not installed")


def raw(env_id, seed):
    """The package's own environment and its first observation."""
    importlib.import_module("minigrid")
    env = gym.make(env_id)
    return env, env.reset(seed=seed)[0]


# ------------------------------------------------------------------ what the agent sees

@needs_minigrid
def test_symbols_are_direction_and_view():
    several = Environments(DOORKEY, 3, seed=7)
    assert several.spec.symbols == (4, *(11, 6, 3) * 49) and not several.spec.vector and not several.spec.image
    symbols = several.reset()["symbols"]
    for row, seed in zip(symbols, grid_play.episode_seeds(7, 3), strict=True):
        env, obs = raw(DOORKEY, seed)
        assert row[0] == obs["direction"] and np.array_equal(grids.view(row), obs["image"])
        assert np.array_equal(grids.draw(row), env.unwrapped.get_pov_render(grids.TILE))
    several.close()


@needs_minigrid
def test_pixels_are_the_same_view_as_a_picture_without_the_direction():
    several = Environments(f"{DOORKEY}-pixels", 2, seed=7)
    assert several.spec.image == 3 and not several.spec.symbols
    images = several.reset()["image"]
    assert images.shape == (2, 64, 64, 3) and images.dtype == np.uint8
    for image, seed in zip(images, grid_play.episode_seeds(7, 2)):
        drawn = raw(DOORKEY, seed)[0].unwrapped.get_pov_render(8).astype(float)         # (56, 56, 3)
        sides = (drawn, 8), (image[:63, :63].astype(float), 9)
        coarse = [x.reshape(7, side, 7, side, 3).mean((1, 3)) for x, side in sides]
        assert np.abs(coarse[0] - coarse[1]).mean() < 12        # the same cells, up to the blur of the new size
    several.close()


@needs_minigrid
def test_the_goal_is_a_termination_and_running_out_of_time_is_not():
    env = envs.make(EMPTY)
    env.reset(seed=0)
    for action in grid_play.shortest_plan(env.unwrapped):
        _, reward, terminated, truncated, _ = env.step(action)
    assert terminated and not truncated and reward == pytest.approx(1 - 0.9 * 5 / 100)
    several = Environments(EMPTY, 2, seed=0)
    several.reset()
    for _ in range(100):
        _, reward, terminal, last = several.step(np.eye(7, dtype=np.float32)[[0, 0]])       # turns on the spot
    assert last.all() and not terminal.any() and not reward.any()


@needs_minigrid
def test_processes_of_their_own_make_the_tasks_too():
    drawn = Environments(EMPTY, 1, seed=0, asynchronous=True, render_mode="rgb_array")          # seen as symbols, drawn for people
    assert type(drawn.envs.processes[0]).__name__ in ("ForkServerProcess", "SpawnProcess")
    drawn.close()
    several = Environments(f"{EMPTY}-pixels", 2, seed=0, asynchronous=True)
    assert several.reset()["image"].shape == (2, 64, 64, 3)
    assert {type(p).__name__ for p in several.envs.processes} <= {"ForkServerProcess", "SpawnProcess"}     # not forks
    several.close()


def test_without_the_package_one_sentence_says_what_brings_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "minigrid", None)
    assert load_lesson("07_dreamer_minigrid").main([*SMALL, "--env", EMPTY]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert EMPTY in err and "minigrid is not installed (pip install minigrid==" in err


@needs_minigrid
def test_an_unknown_task_is_named():
    with pytest.raises(TaskError, match="MiniGrid-Emty-5x5.*Did you mean"):
        envs.make("MiniGrid-Emty-5x5-v0")


# ------------------------------------------------------------------ the ends of the scale

def fewest_steps(env):
    """The same search with copies of the real environment and every action: slow, and independent of the other."""
    def name(env):
        carried = env.carrying and (env.carrying.type, env.carrying.color)
        return *map(int, env.agent_pos), env.agent_dir, carried, env.grid.encode().tobytes()
    known, waiting = {name(env)}, deque([(env, 0)])
    while waiting:
        env, steps = waiting.popleft()
        for action in range(6):
            following = copy.deepcopy(env)
            if following.step(action)[2]:
                return steps + 1
            if name(following) not in known:
                known.add(name(following))
                waiting.append((following, steps + 1))


@needs_minigrid
@pytest.mark.parametrize("env_id, seed", [(EMPTY, 0), (DOORKEY, 3)])
def test_the_best_play_is_the_shortest_there_is(env_id, seed):
    env, _ = raw(env_id, seed)
    assert len(grid_play.shortest_plan(env.unwrapped)) == fewest_steps(env.unwrapped)


@needs_minigrid
@pytest.mark.parametrize("env_id", [EMPTY, DOORKEY, ROOMS, "MiniGrid-MultiRoom-N2-S4-v0", "MiniGrid-LavaGapS5-v0"])
def test_the_best_play_works_in_the_real_environment(env_id):
    for seed, expected in zip(range(5), grid_play.optimal_returns(env_id, range(5)), strict=True):
        env, _ = raw(env_id, seed)
        total = sum(env.step(action)[1] for action in grid_play.shortest_plan(env.unwrapped))
        assert total == pytest.approx(expected) and expected > 0


@needs_minigrid
def test_a_goal_that_cannot_be_reached_is_named_and_one_too_far_is_worth_nothing(monkeypatch):
    env, _ = raw(EMPTY, 0)
    env.unwrapped.grid.set(3, 3, None)
    with pytest.raises(TaskError, match="finds no way to a goal"):
        grid_play.shortest_plan(env.unwrapped)
    for task in ("Fetch-5x5-N2", "GoToDoor-5x5", "Dynamic-Obstacles-5x5"):         # no goal; doors in the outer wall; things that move
        with pytest.raises(TaskError, match="finds no way to a goal"):
            grid_play.optimal_returns(f"MiniGrid-{task}-v0", [0])
    monkeypatch.setattr(grid_play, "shortest_plan", lambda env: [2] * 101)
    assert grid_play.optimal_returns(EMPTY, [0]) == [0.0]


@needs_minigrid
def test_random_play_can_be_repeated_and_succeeds_now_and_then():
    seeds = grid_play.episode_seeds(0, 50)
    returns = grid_play.random_returns(EMPTY, seeds)
    assert returns[:5] == grid_play.random_returns(EMPTY, seeds[:5])
    assert 0.15 < share_above_0(returns) < 0.65         # 36 % of 200 episodes elsewhere
    assert max(returns) < max(grid_play.optimal_returns(EMPTY, seeds[:1])) and min(returns) == 0


# ------------------------------------------------------------------ pictures

@pytest.fixture
def agent(tiny_size):
    """An agent that has learned nothing, of FourRooms."""
    several = Environments(ROOMS, 1, 0)
    several.close()
    return Agent(several.spec, several.actions, several.discrete, tiny()).requires_grad_(False)


@needs_minigrid
def test_a_dream_stands_beside_the_truth_and_their_difference(agent):
    episode, = record(None, ROOMS, 1, 0, longest=12)
    seen, dreamed = triptych.dream(agent, episode, 5, 6, Draw(torch.Generator().manual_seed(0)))
    assert torch.equal(seen["symbols"], episode.obs["symbols"][:11]) and dreamed["symbols"].shape == (6, 148)
    real, dream = triptych.pictures(ROOMS, seen, dreamed)
    assert [len(real), len(dream)] == [11, 6] and real[0].shape == dream[0].shape == (112, 112, 3)
    frames, size = triptych.frames(real, dream), triptych.SCALE
    assert len(frames) == 11 and frames[0].size == (3 * size + 12, size + 22)
    grey = [np.asarray(frame)[30:, -size:].std() for frame in frames]
    assert max(grey[:5]) == 0 and min(grey[5:]) > 0         # looking: no difference; then this agent knows nothing
    dark = [np.zeros((9, 9, 3), dtype=np.uint8)] * 3
    bands = np.asarray(triptych.strip(dark, dark[:1]))[22:].max((1, 2)).reshape(2, -1)           # of truth and of dream
    assert (bands[:, :30].max(1) == 255).all() and not bands[:, 30:].any()                      # both are named, at the top
    light = [np.full((9, 9, 3), 200, dtype=np.uint8)] * 3
    cells = np.asarray(triptych.strip(light, light[:1]))[-triptych.CELL // 2:]                  # the lower half of what was dreamed
    assert not cells[:, :triptych.CELL].any() and cells[:-6, triptych.CELL + 6:].min() > 150    # nothing of what was seen last
    assert triptych.strip(real, dream, 4).size == (4 * (triptych.CELL + 6) - 6, 2 * (triptych.CELL + 6) + 22)
    assert 0 <= grids.told_right(dreamed["symbols"], seen["symbols"][5:]).mean() < 1


def test_a_difference_is_grey_where_both_agree_and_bright_where_the_dream_is():
    real, dream = np.full((2, 2, 3), 200, np.uint8), np.full((2, 2, 3), 200, np.uint8)
    dream[0], dream[1, 0] = 255, 0
    assert triptych.difference(real, dream)[..., 0].tolist() == [[155, 155], [28, 128]]


def test_what_cannot_be_drawn_is_named():
    with pytest.raises(TaskError, match="CartPole-v1 cannot be drawn"):
        triptych.drawer("CartPole-v1", {"vector": torch.zeros(4)})


@needs_minigrid
def test_cells_are_told_right_by_their_object():
    symbols = np.zeros((2, 148), np.int64)
    other = symbols.copy()
    other[0, 1:148:3] = 1           # every object
    other[1, 2] = 5                 # one colour
    other[1, 4] = 8                 # one object
    assert grids.told_right(other, symbols).tolist() == [0.0, 48 / 49]


# ------------------------------------------------------------------ success as a score

def summary(share, seed=0, without="nothing", task=DOORKEY):
    scores = {mode: [0.9] * round(100 * share) + [0.0] * round(100 - 100 * share) for mode in ("greedy", "sampled")}
    return {"task": task, "seed": seed, "size": "1m", "steps": 40, "updates": 9, "seconds": 60.0, "versions": {},
            "evaluations": [{"step": 20, **scores}, {"step": 40, **scores}], "final": scores, "random": [0.0, 0.5],
            "optimal": [0.96] * 2, "without": without, "config": {"eval_episodes": 20, "envs": 1}}


def test_a_bar_of_success_wants_greedy_and_sampled_episodes():
    bar, said = Bar(success=0.9), summary(0.9)
    assert [met for _, met in bar.check(said)] == [True, True]
    said["final"]["sampled"][0] = 0.0
    assert [met for _, met in bar.check(said)] == [True, False]
    assert "89.0% of 100 fresh sampled episodes, wanted 90%" in bar.check(said)[1][0]
    assert bar.least == 0.9 and bar.score([0.0, 0.2, 0.9]) == pytest.approx(2 / 3)
    assert Bar(final=3).least == 3 and Bar(final=3).score([0.0, 6.0]) == 3


def test_a_report_shows_returns_and_success(capsys, tmp_path):
    cli.report(summary(0.5), tmp_path, Bar(success=0.9), success=True)
    out = capsys.readouterr().out
    assert "final    0.450    0.450" in out and "50.0%    50.0%" in out and "bar not met: success in 50.0%" in out


def test_stored_results_are_judged_by_success_and_stand_in_a_table_of_their_own(monkeypatch):
    monkeypatch.setattr(experiments, "SEEDS", {"07_dreamer_minigrid": 3})
    lesson = experiments.load("07_dreamer_minigrid").of(DOORKEY)
    kept = results.entry(summary(0.95), "c", lesson.bar.least, score=lesson.bar.score)
    assert kept["curve"]["greedy"] == [[20, 0.95], [40, 0.95]] and kept["steps_to_bar"] == 20
    kept["final"]["sampled"] = [0.5, 0.7]
    text = tables.results([(lesson, DOORKEY, [kept], [])], {})
    assert f"| {DOORKEY} | 0 | 40 | 95% | 100% | 50% | 0.855 | 0.600 | 0.960 | 20 | 1.0 |" in text
    assert tables.meets(lesson, kept) and tables.outcome(lesson, [kept]) == "1 of 1 seeds (2 not run yet), worst 95%; chance 50%"
    kept["final"]["sampled"][:10] = [0.0] * 10
    assert not tables.meets(lesson, kept) and "at least 90%" in tables.in_words(lesson)
    assert "|" in tables.results([(lesson, DOORKEY, [{**kept, "random": None, "optimal": None}], [])], {})


def test_each_task_of_the_lesson_has_a_budget_and_a_bar_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "SEEDS", {"07_dreamer_minigrid": 1, "02_dreamer_cartpole": 1})
    jobs, unreadable = experiments.plan(experiments.SEEDS, tmp_path)
    module = load_lesson("07_dreamer_minigrid")
    assert not unreadable and len(jobs) == 4 and jobs[3].config.steps == 8000
    for job, (task, budget) in zip(jobs, module.TASKS.items()):
        assert (job.task, job.config.env, job.config.steps) == (task, task, budget["steps"])
        assert job.lesson.bar == module.BAR[task] and job.lesson.acts and hash(job.lesson)
        assert job.command() == f"python 07_dreamer_minigrid.py --env {task} --seed 0 --threads 1"
    assert not experiments.load("01_world_model_demo").of("CartPole-v1").acts


# ------------------------------------------------------------------ the script

@pytest.fixture
def lesson(tiny_size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = load_lesson("07_dreamer_minigrid")
    monkeypatch.setitem(sys.modules, module.__name__, module)       # where --help looks for the words beside its flags
    monkeypatch.setattr(module, "RANDOM", 3)
    monkeypatch.setattr(module, "HORIZON", 8)
    return module


def summaries(tmp_path):
    return {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/summary.json")}


@needs_minigrid
def test_the_lesson_trains_compares_and_draws(lesson, tmp_path, capsys, monkeypatch):
    flags = [*SMALL, "--env", EMPTY]
    monkeypatch.setattr(lesson, "DEFAULTS", replace(lesson.read(flags, EMPTY)[1], output=""))
    monkeypatch.setattr(lesson, "TASKS", {EMPTY: {"steps": 40}})
    monkeypatch.setattr(lesson, "BAR", {EMPTY: Bar(success=0.99)})
    assert lesson.main(flags) == 0
    out = capsys.readouterr().out
    assert re.search(r"bar (not )?met: +success in .* of 2 fresh sampled episodes, wanted 99%", out)
    assert "of 3 episodes" in out and "mean return 0.955" in out
    assert lesson.main([*flags, "--without", "memory"]) == 0 and "bar" not in capsys.readouterr().out
    assert lesson.main([*flags, "--without", "memory"]) == 0        # from its checkpoint
    found = summaries(tmp_path)
    assert {name: s["without"] for name, s in found.items()} == {
        f"{EMPTY}-0": "nothing", f"{EMPTY}-without-memory-0": "memory"}
    assert all(len(s["random"]) == 3 and s["optimal"] == [pytest.approx(0.955)] * 2 for s in found.values())
    assert lesson.main(["--compare"]) == 0
    assert {path.name for path in (tmp_path / "assets").iterdir()} == {
        f"07_dream_{EMPTY}.gif", f"07_dream_{EMPTY}.png", "07_ablations.json", f"07_ablations_{EMPTY}.png",
        f"curve_{EMPTY}-0.png", f"curve_{EMPTY}-without-memory-0.png"}


def test_pictures_have_the_budget_of_their_task_and_other_tasks_are_refused(lesson, capsys):
    for flags in (["--env", DOORKEY, "--pixels"], ["--env", f"{DOORKEY}-pixels"]):
        config = lesson.read(flags, f"{DOORKEY}-pixels")[1]         # the second reading of `work`, which knows the task
        assert (config.env, config.steps) == (f"{DOORKEY}-pixels", lesson.TASKS[DOORKEY]["steps"])
    assert lesson.main(["--env", "CartPole-v1"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: --env CartPole-v1 is no task of MiniGrid") and err.count("\n") == 1


@pytest.mark.parametrize("flags, folder", [([], "assets"), (["--output", "there"], "there")])
def test_a_dream_lies_where_its_run_does_if_a_folder_is_named(flags, folder, lesson, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(lesson, "learn", lambda config, without, run, pictures, *_: seen.append(pictures))
    assert lesson.main(["--env", DOORKEY, *flags]) == 0 and [path.absolute() for path in seen] == [tmp_path / folder]


def test_dreams_of_shipped_agents_need_no_run(lesson, monkeypatch):
    seen = []
    monkeypatch.setattr(lesson, "load_agent", lambda path: (path, None))
    monkeypatch.setattr(lesson, "picture", lambda agent, config, pictures: seen.append((agent, pictures)))
    assert lesson.main(["--dream"]) == 0
    shipped = paths.ROOT / "assets" / "checkpoints"
    assert seen == [(shipped / f"{task}.pt", paths.ROOT / "assets") for task in lesson.TASKS]
    assert lesson.main(["--dream", "--env", DOORKEY, "--output", "there"]) == 0
    assert [(agent.stem, str(pictures)) for agent, pictures in seen[len(lesson.TASKS):]] == [(DOORKEY, "there")]


def test_a_task_without_a_shipped_agent_gives_one_line(lesson, capsys):
    assert lesson.main(["--dream", "--env", "MiniGrid-Empty-5x5-v0"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: there is no agent at ") and err.count("\n") == 1


@needs_minigrid
def test_several_runs_share_an_output_folder_and_no_part_is_taken_for_a_whole(lesson, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ablations, "WITHOUT", ("memory", "free-nats"))
    assert lesson.main([*SMALL, "--env", EMPTY, "--without", "each", "--output", "all", "--seed", "4"]) == 0
    folders = {path.name for path in (tmp_path / "all").iterdir()}
    assert folders == {f"{EMPTY}-without-{part}-4" for part in ("memory", "free-nats")}
    assert all((tmp_path / "all" / name / "curve.png").exists() for name in folders)
    capsys.readouterr()
    folder = f"all/{EMPTY}-without-memory-4"
    assert lesson.main([*SMALL, "--env", EMPTY, "--output", folder, "--seed", "4"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr(lesson, "TASKS", {EMPTY: {"steps": 40}})
    assert lesson.main([*SMALL, "--env", EMPTY, "--output", "whole"]) == 0
    assert (tmp_path / "whole" / f"07_dream_{EMPTY}.gif").exists() and not (tmp_path / "assets").exists()
    with pytest.raises(CheckpointError, match="lesson 7 --without memory; only"):
        load_agent(tmp_path / folder / "checkpoint.pt")


@needs_minigrid
def test_without_a_task_all_are_trained_in_turn(lesson, monkeypatch):
    seen = []
    monkeypatch.setattr(lesson, "learn", lambda config, without, folder, *_: seen.append((config, folder.name)))
    assert lesson.main(["--pixels", "--seed", "2"]) == 0
    assert [(c.env, c.steps, name) for c, name in seen] == [
        (f"{task}-pixels", budget["steps"], f"{task}-pixels-2") for task, budget in lesson.TASKS.items()]


@needs_minigrid
def test_a_task_whose_best_play_cannot_be_found_is_refused_before_it_is_trained(lesson, tmp_path, capsys):
    assert lesson.main([*SMALL, "--env", "MiniGrid-Fetch-5x5-N2-v0"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: FetchEnv: this search finds no way to a goal") and err.count("\n") == 1
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize("flags, text", [
    ("--without memry", "did you mean memory?"), ("--pixel", "did you mean --pixels?"), ("--without", "needs a value"),
    ("--compare", "finds no finished run"), ("--compare --train-ratio 8", "--compare trains nothing: it goes with no other flag, not with --train-ratio"),
    ("--dream --without memory", "--dream trains nothing: it goes with --env and --output alone, not with --without"),
    ("--without memory --collector process", "--collector inline")])
def test_wrong_flags_give_one_line_and_exit_code_2(flags, text, lesson, capsys):
    assert lesson.main(flags.split()) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1 and text in err


def test_help_shows_the_flags_of_the_lesson_beside_all_others(lesson, capsys):
    with pytest.raises(SystemExit) as stop:
        lesson.main(["--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(word in out for word in ("Lesson 7", "--pixels", "--without", "--compare", "--dream", "--train-ratio", "free-nats"))


def test_the_header_names_the_bars_of_the_code():
    module = load_lesson("07_dreamer_minigrid")
    words = " ".join(module.__doc__.split())
    for task, bar in module.BAR.items():
        assert f"{bar.success:.0%} ({task.split('-', 1)[1].removesuffix('-v0')})".replace("%", " %") in words
    for part in ("Goal ", "Read before ", "Solved means, ", "Files written", "Next "):
        assert f"\n{part}" in module.__doc__
    assert module.DEFAULTS.final_episodes == 100 and set(module.TASKS) == set(module.BAR)


# ------------------------------------------------------------------ the comparison

def write(folder, said):
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(said))


def test_a_comparison_keeps_what_has_no_run_any_more(tmp_path, capsys):
    runs, assets = tmp_path / "runs", tmp_path / "assets"
    write(runs / "a", summary(0.9))
    write(runs / "b", summary(0.8, seed=1))
    write(runs / "c", summary(0.2, without="memory"))
    write(runs / "other", {"task": "CartPole-v1"})
    ablation_study.publish(runs, assets, {})
    out = capsys.readouterr().out
    assert "chance 50%; return of the best play 0.960" in out and re.search(r"nothing +85% +85% +0.765 +90%, 80%", out)
    assert re.search(r"memory +20% +20% +0.180 +20% +never\n", out) and "symlog" not in out
    for path in runs.glob("*/summary.json"):
        path.unlink()
    (runs / "a" / "summary.json").write_text(json.dumps(summary(0.1)))
    ablation_study.publish(runs, assets, {})
    kept = json.loads((assets / "07_ablations.json").read_text())
    assert [(e["without"], e["seed"], e["greedy"]) for e in kept] == [
        ("nothing", 0, 0.1), ("nothing", 1, 0.8), ("memory", 0, 0.2)]


@pytest.mark.parametrize("greedy, since", [((0, 1, 1, 1), 2), ((1, 0, 0.95, 1), 3), ((1, 1, 1, 0.9), None), ((1, 1, 1, 1), 1), ((), None)])
def test_success_is_held_from_the_step_on_after_which_it_never_falls(greedy, since):
    assert ablation_study.held_from([[step, share, 0.0] for step, share in enumerate(greedy, 1)]) == since


def test_a_panel_shows_the_part_in_colour_the_whole_in_grey_and_chance():
    entries = [ablation_study.entry(s) for s in (summary(0.9), summary(0.8, seed=1), summary(0.2, without="memory"))]
    axes = [axis for axis in ablation_study.draw(DOORKEY, entries).axes if axis.axison]
    assert len(axes) == 1
    lines = {line.get_label(): line.get_ydata() for line in axes[0].get_lines()}
    assert list(lines["without memory (1 seed)"]) == [0.2, 0.2] and axes[0].get_title() == "without memory (1 seed)"
    assert lines["chance"][0] == 0.5 and axes[0].collections[0].get_label() == "everything, worst to best of 2 seeds"
    edges = axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert edges.min() == pytest.approx(0.8 - ablation_study.WIDE) and edges.max() == pytest.approx(0.9 + ablation_study.WIDE)


def test_title_and_legend_have_room_beside_each_other_over_a_single_panel():
    runs = [ablation_study.entry(summary(0.2, seed, part)) for part, seed in (("nothing", 0), ("memory", 0), ("memory", 1))]
    figure = ablation_study.draw("MiniGrid-FourRooms-v0", runs)
    FigureCanvasAgg(figure).draw()
    title, legend = figure._suptitle.get_window_extent(), figure.legends[0].get_window_extent()
    assert 0 <= title.x0 and title.x1 < legend.x0 and legend.x1 <= figure.bbox.x1


def test_runs_that_agree_are_drawn_apart_and_one_without_a_curve_is_not_drawn():
    twins = [ablation_study.entry(summary(0.5, seed, "memory")) for seed in (0, 1)]
    stopped = {**ablation_study.entry(summary(0.5, 0, "symlog")), "curve": []}
    axis, = (axis for axis in ablation_study.draw(DOORKEY, [*twins, stopped]).axes if axis.axison)
    first, second = (line.get_ydata() for line in axis.get_lines() if line.get_color() == "C3")
    assert not axis.collections and np.allclose((first + second) / 2, 0.5) and np.allclose(second - first, ablation_study.APART)


def test_a_seed_has_the_same_dashes_in_every_panel_and_the_title_names_them():
    """Of memory seed 1 alone, of symlog both."""
    runs = summary(0.9), summary(0.2, 1, "memory"), summary(0.3, 0, "symlog"), summary(0.4, 1, "symlog")
    figure = ablation_study.draw(DOORKEY, [ablation_study.entry(s) for s in runs])
    styles = [[line.get_linestyle() for line in axis.get_lines() if line.get_color() == "C3"] for axis in figure.axes if axis.axison]
    assert styles == [["--"], ["-", "--"]] and "(red: seed 0 solid, seed 1 dashed)" in figure.get_suptitle()
    assert "red" not in ablation_study.draw(DOORKEY, [ablation_study.entry(summary(0.9, 5))]).get_suptitle()


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_kept_says_whether_the_run_was_compiled(compiled):
    whole = summary(0.9)
    assert ablation_study.entry({**whole, "config": {**whole["config"], "compile": compiled}})["compiled"] == compiled


def test_chance_counts_every_seed_once_however_many_parts_were_switched_off():
    entries = [dict(seed=seed, without=part, chance=chance) for seed, part, chance in (
        (0, "nothing", 0.1), (0, "memory", 0.1), (0, "floor", 0.1), (1, "nothing", 0.3))]
    assert ablation_study.mean_of_seeds(entries, "chance") == pytest.approx(0.2)


def test_damaged_comparisons_are_named_and_left_alone(tmp_path):
    (tmp_path / "07_ablations.json").write_text('[{"task": 3}]')
    with pytest.raises(ConfigError, match="07_ablations.json is damaged"):
        ablation_study.publish(tmp_path / "runs", tmp_path, {})
    assert (tmp_path / "07_ablations.json").read_text() == '[{"task": 3}]'
    assert paths.ROOT == tmp_path


def as_the_lesson(**others):
    """Its Config of DoorKey-5x5, and a summary of a run that has these other hyperparameters."""
    config = load_lesson("07_dreamer_minigrid").lesson(DOORKEY)
    without = others.pop("without", "nothing")
    has = replace(config if without == "nothing" else ablations.configure(config, without), **others)
    return {DOORKEY: config}, {**summary(0.1, without=without), "config": asdict(has)}


@pytest.mark.parametrize("name, value", [("steps", 20), ("size", "12m"), ("lr", 0.01), ("free_nats", 0.0), ("train_ratio", 64.0), ("envs", 4)])
def test_a_run_with_a_hyperparameter_of_its_own_is_named_and_left_out(name, value, tmp_path, capsys):
    runs, assets = tmp_path / "runs", tmp_path / "assets"
    lessons, mine = as_the_lesson()
    write(runs / "a", mine)
    write(runs / "trial", as_the_lesson(**{name: value})[1])
    write(runs / "painted", {**as_the_lesson(**{name: value})[1], "task": f"{DOORKEY}-pixels"})
    ablation_study.publish(runs, assets, lessons)
    said = capsys.readouterr().out
    wanted = getattr(lessons[DOORKEY], name)
    assert all(f"runs/{run} has --{name.replace('_', '-')} {value}, the lesson's runs {wanted}\n" in said for run in ("trial", "painted"))
    assert [e["without"] for e in json.loads((assets / "07_ablations.json").read_text())] == ["nothing"]


@pytest.mark.parametrize("part", [*ablations.WITHOUT, "nothing"])
def test_a_run_may_lack_its_part_and_be_another_seed_on_another_machine(part, tmp_path, capsys):
    lessons, mine = as_the_lesson(without=part, seed=1, output="elsewhere", threads=2, compile=True, device="cpu", eval_every=100)
    write(tmp_path / "runs" / "a", mine)
    ablation_study.publish(tmp_path / "runs", tmp_path / "assets", lessons)
    assert "left out" not in capsys.readouterr().out


def test_of_two_runs_of_the_same_part_and_seed_the_second_is_named_and_left_out_and_so_is_a_damaged_one(tmp_path, capsys):
    runs, assets = tmp_path / "runs", tmp_path / "assets"
    write(runs / "a", summary(0.9))
    write(runs / "b", summary(0.1))
    (runs / "broken").mkdir()
    (runs / "broken" / "summary.json").write_text('{"task": ')
    ablation_study.publish(runs, assets, {})
    said = capsys.readouterr().out
    assert re.search("left out: .*runs/b is of the same task, part and seed as .*runs/a", said) and "broken/summary.json is damaged" in said
    assert [e["greedy"] for e in json.loads((assets / "07_ablations.json").read_text())] == [0.9]


def test_entropy_and_scale_of_the_last_line_before_each_evaluation_are_kept(tmp_path):
    write(tmp_path / "runs" / "a", summary(0.9))
    rows = [{"step": 10}, {"step": 18, "entropy": 1.9, "return_scale": 0.00012345}, {"step": 30, "entropy": 1.5, "return_scale": 0.3},
            {"step": 40, "entropy": 0.2, "return_scale": 0.7}, {"step": 41, "entropy": 0.1, "return_scale": 0.8}]
    (tmp_path / "runs" / "a" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept, = ablation_study.collect(tmp_path / "runs", {})
    assert kept["policy"] == [[18, 1.9, 0.000123], [40, 0.2, 0.7]]
    assert ablation_study.entry(summary(0.9))["policy"] == []


@pytest.mark.parametrize("name", ["entropy", "entropy_end", "return_floor", "beta_rew", "beta_repval", "late_hold"])
def test_runs_of_another_recipe_than_the_stored_ones_are_named_and_left_out(name, tmp_path, capsys):
    """An agent of one recipe beside one that lacks a part of another would say nothing of that part."""
    runs, assets, whole = tmp_path / "runs", tmp_path / "assets", summary(0.9)
    write(runs / "a", whole)
    ablation_study.publish(runs, assets, {})
    other = summary(0.1, without="memory")
    write(runs / "b", {**other, "config": {**other["config"], name: 7.0}})
    write(runs / "c", summary(0.2, without="symlog"))
    capsys.readouterr()
    ablation_study.publish(runs, assets, {})
    assert "without memory, seed 0, is of another recipe than what" in capsys.readouterr().out
    assert [e["without"] for e in json.loads((assets / "07_ablations.json").read_text())] == ["nothing", "symlog"]


def test_the_best_play_is_that_of_the_final_episodes_and_chance_of_others(monkeypatch, tmp_path):
    module, seen = load_lesson("07_dreamer_minigrid"), {}
    for name in ("random", "optimal"):
        monkeypatch.setattr(module.grid_play, f"{name}_returns", lambda env, seeds, name=name: seen.update({name: seeds}) or [0.5])
    config = replace(module.DEFAULTS, seed=3, final_episodes=6)
    module.ends_of_the_scale(config)
    assert list(seen["optimal"]) == list(module.grid_play.episode_seeds(derived_seed(3, 2), 6))
    assert len(seen["random"]) == module.RANDOM and not set(seen["random"]) & set(seen["optimal"])

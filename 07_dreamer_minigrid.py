"""Lesson 7: one reward at the end, and a view of 7 x 7 cells: DreamerV3 explores, remembers, and finds the goal.

Goal            See what each of the tricks of DreamerV3 does where a reward of at most 1 arrives once an episode, by taking
                them away one at a time, and what the recurrent memory carries.
Read before     Lessons 2 to 6; dreamer/tools/ablations.py. Needs MiniGrid: pip install minigrid==3.2.0
Time            Per seed, one thread, with another run on the second core: 5 to 6 minutes (Empty-8x8), 18 (DoorKey-5x5)
                and 96 to 106 (FourRooms with --compile).

Tasks           Empty-8x8: a goal in the far corner. DoorKey-5x5: fetch a key, open a door, reach the goal behind it.
                FourRooms: agent and goal anywhere in four rooms of 8 x 8 cells, 100 steps to find it. Every episode has
                another grid, and data was short: so it has a budget of many steps and few updates a step (train ratio
                16; the official presets, too, choose it by domain: 32 for Atari, 64 for Procgen, 512 for Crafter).
Observations    The 7 x 7 cells in front of the agent, as symbols (object, colour and state of each), and the direction
                in which it looks; with --pixels the same view as a 64 x 64 picture, without the direction. The mission,
                a sentence, is not needed: in these tasks it never changes, and the agent never sees it.
Rewards         1 - .9 x (steps / most steps) at the goal, 0 everywhere else: success is a return above 0. An episode
                that reaches its most steps is truncated, not terminated.
Chance          Uniformly random actions succeed in 18 to 20 % of the episodes of Empty-8x8, 8 to 10 % of DoorKey-5x5 and
                3 to 5 % of FourRooms: 5 successes in 100 may be chance. Every summary holds the returns of 200
                random episodes, and what the best play, which knows the whole grid, gets in the final ones.

What you should see
    Empty-8x8     at step 2,000 no greedy episode reaches the goal, from step 4,000 on every one does, in
                  hardly more steps than the best play needs
    DoorKey-5x5   hardly more than chance for 4,000 steps, then a climb with dips: from step 12,000 on every episode
    FourRooms     hardly above chance for 400,000 and 640,000 steps (seeds 0 and 1; seed 2 is at 35 % early, and at 0 to 15
                  % from 320,000 to 480,000); then a rise to 95, 55 and 80 % greedy at the end (20 episodes each: much of
                  the spread is chance). Of 100 fresh ones 82, 33 and 68 % greedy, 76, 34 and 62 % sampled

Solved means, of 100 fresh episodes at the end, greedy and sampled alike: success in at least 99 % (Empty-8x8), 90 %
(DoorKey-5x5) and 30 % (FourRooms).

Files written, in runs/TASK-SEED, or runs/TASK-without-WHAT-SEED (or --output, a folder each there if it is several runs):
metrics.jsonl, checkpoint.pt, summary.json, as in lesson 2; assets/curve_RUN.png, and of whole agents of the three tasks a dream
beside the truth, assets/07_dream_TASK.gif and .png (with --output there, too; the curve as curve.png beside its run).
--compare writes assets/07_ablations.json and, for each task, assets/07_ablations_TASK.png.
Next            08_dreamer_walker_walk.py: pictures instead of symbols.

Try             python 07_dreamer_minigrid.py --env MiniGrid-DoorKey-5x5-v0                     one task only
                python 07_dreamer_minigrid.py --env MiniGrid-DoorKey-5x5-v0 --without memory    does it still open the door?
                python 07_dreamer_minigrid.py --env MiniGrid-DoorKey-5x5-v0 --without each      every part in turn: 8 runs, two hours and more
                python 07_dreamer_minigrid.py --dream --output runs/shipped                     dreams of the shipped agents
                python 07_dreamer_minigrid.py --compare                                         what all runs show, yours in place of ours
"""

import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from dreamer.config import Config
from dreamer.distributions import Draw
from dreamer.tools import ablations, ablation_study, grid_play, lesson_flags
from dreamer.training import cli, paths
from dreamer.training.bar import Bar, share_above_0
from dreamer.training.loop import derived_seed
from dreamer.training.records import write_summary
from dreamer.training.shipping import load_agent, shipped
from dreamer.training.validate import ConfigError
from dreamer.visual import grids, triptych
from dreamer.visual.episodes import record
from dreamer.visual.render import save_gif

TASKS = {"MiniGrid-Empty-8x8-v0": dict(steps=8000, eval_every=1000),
         "MiniGrid-DoorKey-5x5-v0": dict(steps=20_000, eval_every=2000),
         "MiniGrid-FourRooms-v0": dict(steps=960_000, envs=16, train_ratio=16.0, eval_every=80_000, checkpoint_every=40_000,
                                      log_every=2000)}
DEFAULTS = Config(env="MiniGrid-Empty-8x8-v0", final_episodes=100, **TASKS["MiniGrid-Empty-8x8-v0"])
BAR = {"MiniGrid-Empty-8x8-v0": Bar(success=0.99), "MiniGrid-DoorKey-5x5-v0": Bar(success=0.90),
       "MiniGrid-FourRooms-v0": Bar(success=0.30)}
RANDOM = 200                    # episodes of chance
CONTEXT, HORIZON = 5, 40        # rows looked at, steps dreamed


@dataclass(frozen=True)
class Own:
    """What only this lesson can be told."""
    pixels: bool = False
    """see the 7 x 7 view as a 64 x 64 picture instead of symbols"""
    without: Literal["nothing", "each", *ablations.WITHOUT] = "nothing"
    """switch a part of the algorithm off, or each of them in turn (dreamer/tools/ablations.py)"""
    compare: bool = False
    """train nothing: draw the success rates of all runs in runs/ and of what assets/07_ablations.json holds; a run of yours
    takes the place of the stored one of its task, part and seed (git checkout assets brings it back)"""
    dream: bool = False
    """train nothing: draw the dreams of the shipped agents, or of the one of --env"""


def lesson(task):
    """The Config of the whole runs of a task; one that is not the lesson's gets the budget of Empty-8x8."""
    return replace(DEFAULTS, env=task, **TASKS.get(task.removesuffix("-pixels"), {}))


def read(argv, task):
    """Own flags and Config for a task, or for the one that --env names. Raises ConfigError."""
    own, config = lesson_flags.read(Own(), lesson(task), argv, __doc__)
    if not config.env.startswith("MiniGrid-"):
        raise ConfigError(f"--env {config.env} is no task of MiniGrid, and this lesson is about those; lesson 2 takes any other")
    if own.pixels and not config.env.endswith("-pixels"):
        config = replace(config, env=config.env + "-pixels")
    if own.without != "nothing" and config.collector != "inline":
        raise ConfigError("--without needs --collector inline, what is switched off here is on in other processes")
    return own, config


def folder_of(config, without, several):
    """runs/TASK-SEED or runs/TASK-without-WHAT-SEED; the same in --output, if that is for several runs."""
    name = config.env if without == "nothing" else f"{config.env}-without-{without}"
    own = paths.run_folder(name, config.seed)
    return Path(config.output) / own.name if several and config.output else Path(config.output or own)


def learn(config, without, folder, pictures, argv, runs):
    """One run: train, report, draw into the folder `pictures`, and add chance and the best play to its summary."""
    whole, curve = without == "nothing", paths.curve(config.output, folder)
    config = replace(config if whole else ablations.configure(config, without), output=str(folder))
    grid_play.optimal_returns(config.env, [config.seed])        # refuses a task whose best play it cannot find
    run = cli.start(config, argv, runs)
    with nullcontext() if whole else ablations.remove(without, run.learner):
        summary = run.train()
        cli.report(summary, run.folder, BAR.get(config.env) if whole else None, curve, success=True)
        if whole and config.env.removesuffix("-pixels") in TASKS:
            picture(run.learner.average.cpu(), config, pictures)
    summary |= {"without": without, **ends_of_the_scale(config)}
    write_summary(run.folder / "summary.json", summary)


def ends_of_the_scale(config):
    """Returns of random play in episodes of its own, and of the best play in the episodes of the final evaluation."""
    random, final = (grid_play.episode_seeds(derived_seed(config.seed, number), count)
                     for number, count in ((5, RANDOM), (2, config.final_episodes)))
    chance, best = grid_play.random_returns(config.env, random), grid_play.optimal_returns(config.env, final)
    print(f"random actions: success in {100 * share_above_0(chance):.1f} % of {RANDOM} episodes, mean return "
          f"{np.mean(chance):.3f}; the best play, which knows the grid: mean return {np.mean(best):.3f}")
    return {"random": chance, "optimal": best}


def picture(agent, config, pictures):
    """An open-loop dream as GIF and as PNG, in the folder `pictures`.

    Held random actions look around more than the trained agent does. Of eight walks it is the one that sees most:
    chosen by what was seen, not by what is dreamed of it.
    """
    seed = derived_seed(config.seed, 4)
    walks = record(None, config.env, 8, seed, longest=CONTEXT + HORIZON)
    episode = max(walks, key=lambda walk: (len(walk), len(torch.unique(next(iter(walk.obs.values())), dim=0))))
    draw = Draw(torch.Generator().manual_seed(seed))
    seen, dreamed = triptych.dream(agent, episode, CONTEXT, HORIZON, draw)
    if "symbols" in seen:
        right = grids.told_right(dreamed["symbols"], seen["symbols"][CONTEXT:])
        print(f"cells told right with closed eyes: {right[0]:.0%} 1 step ahead, {right[-1]:.0%} {len(right)} ahead")
    real, dreamed = triptych.pictures(config.env, seen, dreamed)
    path = pictures / f"07_dream_{config.env}.gif"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_gif(triptych.frames(real, dreamed), path, 300)
    triptych.strip(real, dreamed).save(path.with_suffix(".png"))
    print(f"open-loop dream: {paths.shown(path)} and {paths.shown(path.with_suffix('.png'))}")


def work(argv, runs):
    given = lesson_flags.given(Own(), argv)
    own, config = read(argv, DEFAULTS.env)
    lesson_flags.alone(given, "compare")
    lesson_flags.alone(given, "dream", ("env", "output"))
    if own.compare:
        return ablation_study.publish(paths.ROOT / "runs", paths.ROOT / "assets", {task: lesson(task) for task in TASKS})
    tasks = [config.env] if "env" in given else TASKS
    if own.dream:
        torch.set_num_threads(1)
        for task in tasks:
            picture(*load_agent(shipped(task)), paths.pictures(config.output))
        return
    parts = ablations.WITHOUT if own.without == "each" else [own.without]
    for task in tasks:
        for part in parts:
            own, config = read(argv, task)
            learn(config, part, folder_of(config, part, len(tasks) * len(parts) > 1), paths.pictures(config.output), argv, runs)


def main(argv=None):
    """Train, report and draw; argv: flags, those of the command line if None. Returns the exit code."""
    return cli.guarded(work, argv)


if __name__ == "__main__":
    sys.exit(main())

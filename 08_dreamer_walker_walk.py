"""Lesson 8: the same agent learns to walk, from 64 x 64 pictures, or from the state vector.

Goal            See that a picture is only another observation: a convolutional encoder and decoder take the place of
                two small networks, and nothing else changes. And learn to train a little at a time.
Read before     Lessons 2 and 3; ImageEncoder in dreamer/world_model/encoder.py, ImageDecoder in decoder.py.
                Needs the DeepMind Control Suite: pip install dm_control==1.0.50 mujoco==3.17.0 (it does not work with
                mujoco 4). Without a screen it draws by EGL or OSMesa, the first that works: on Debian or Ubuntu
                apt-get install libosmesa6 is enough. --proprio learns without either: only its dream at the end is drawn.

Time            From the state vector 90 to 110 minutes per seed on one CPU core with --compile, another run beside it
                (62,000 updates; without it two and a half hours, estimated). From pictures some three hours on two CPU cores
                that do nothing else, with --threads 2 (49,501 updates, 4.5 a second; --compile gains nothing there), five on
                one, a quarter of an hour on one NVIDIA H100 with --compile --async-envs (all three estimated; the
                published run took 4.3 hours, its first part with one thread and other trainings beside it).
Frames          An action is held for two frames, and the agent's steps are what --steps counts: 100,000 steps are
                200,000 frames of the published curves. An episode has 1000 frames, 500 steps; then it is truncated, not
                terminated: the walker would go on.
Rewards         0 to 1 a frame, for a torso that is high and upright and moves at 1 m/s; at most 1000 an episode.
Memory          A row of replay with a picture takes 13.4 KB: 0.67 GB for 100,000 frames, so 1.3 GB at the end (and two
                checkpoints of as much on the disk), 2.7 GB at the default capacity, which a longer run fills.
                --replay-capacity 50000 keeps the last 100,000 frames. Without pictures a row takes 1.2 KB.

What you should see
    from the state vector   180 to 370 greedy after 25,000 steps, 540 to 550 after 50,000, 680 to 830 after 75,000, 870 to
                            910 after 100,000, 935 and 918 at the end (seeds 0 and 1): the entropy falls late
    from pictures           340 greedy after 12,500 steps, 470 after 25,000, 650 after 50,000, 700 after 75,000 and
                            823 at the end (seed 0); a dream falls over within a second or two
Solved means: the mean of 20 fresh greedy episodes at the end is at least 850 from the state vector, with 125,000 steps
(250,000 frames), and at least 800 from pictures, with 100,000 steps (200,000 frames).

Files written, in runs/walker_walk-SEED or runs/walker_walk-proprio-SEED (or --output): metrics.jsonl, checkpoint.pt,
summary.json, and assets/curve_TASK-SEED.png (curve.png in --output), as in lesson 2; and a dream beside the truth,
assets/08_dream_TASK.gif and assets/08_dream_TASK.png (with --output there, too; after --max-steps the dream of the agent
so far). --dream draws that of the shipped agent, --dream --proprio that of the other.
Next            Your own task from pictures: any other of the suite by --env cheetah_run, or a Gymnasium task in
                gymnasium.wrappers.ResizeObservation.

Try             python 08_dreamer_walker_walk.py --proprio --compile
                python 08_dreamer_walker_walk.py --compile --async-envs         (pictures, on a GPU)
                python 08_dreamer_walker_walk.py --threads 2 --max-steps 20000  stop soon after so many steps; the same
                                                                                command again makes the next 20,000
"""

import sys
from dataclasses import dataclass, replace

import torch

from dreamer.config import Config
from dreamer.distributions import Draw
from dreamer.tools import lesson_flags
from dreamer.tools.pause import Paused, pause_after
from dreamer.training import cli, paths
from dreamer.training.bar import Bar
from dreamer.training.envs import TaskError
from dreamer.training.loop import derived_seed
from dreamer.training.shipping import load_agent, shipped
from dreamer.training.validate import ConfigError, validate
from dreamer.visual import triptych
from dreamer.visual.episodes import record
from dreamer.visual.render import save_gif

TASKS = {"walker_walk": dict(steps=100_000, envs=8, eval_every=12_500, eval_episodes=5),
         "walker_walk-proprio": dict(steps=125_000, envs=1, eval_every=12_500, eval_episodes=10)}
DEFAULTS = Config(env="walker_walk", final_episodes=20, checkpoint_every=5000, **TASKS["walker_walk"])
BAR = {"walker_walk": Bar(final=800), "walker_walk-proprio": Bar(final=850)}
STATES = dict(envs=1)           # other tasks from state vectors
CONTEXT, HORIZON = 5, 95        # rows looked at, steps dreamed


@dataclass(frozen=True)
class Own:
    """What only this lesson can be told."""
    proprio: bool = False
    """learn from the state vector instead of pictures"""
    max_steps: int = 0
    """stop at the first checkpoint after so many steps since this start; the same command goes on (0: do not stop)"""
    replay_capacity: int = 0
    """the same as --capacity: rows (steps) that replay keeps (0: as --capacity says)"""
    dream: bool = False
    """train nothing: draw the dream of the shipped agent of this task"""


def read(argv):
    """Own flags and Config of a command line. Raises ConfigError."""
    given = lesson_flags.given(Own(), argv)
    task = given.get("env", DEFAULTS.env)
    task = task.removesuffix("-proprio") + "-proprio" if "proprio" in given else task
    own, config = lesson_flags.read(Own(), replace(DEFAULTS, env=task, **TASKS.get(task, STATES if task.endswith("-proprio") else {})), argv, __doc__)
    if own.max_steps < 0 or own.replay_capacity < 0:
        raise ConfigError("--max-steps and --replay-capacity must be 0 or more")
    if own.replay_capacity and "capacity" in given:
        raise ConfigError("--replay-capacity and --capacity are the same; give one of them")
    try:
        return own, validate(replace(config, env=task, capacity=own.replay_capacity or config.capacity))
    except ConfigError as error:            # in the words of the flag that was given
        raise ConfigError(str(error).replace("--capacity", "--replay-capacity" if own.replay_capacity else "--capacity")) from None


def work(argv, runs):
    own, config = read(argv)
    lesson_flags.alone(lesson_flags.given(Own(), argv), "dream", ("proprio", "env", "output"))
    if own.dream:
        torch.set_num_threads(1)
        return picture(*load_agent(shipped(config.env)), paths.pictures(config.output))
    run = cli.start(config, argv, runs, (pause_after(own.max_steps),) if own.max_steps else ())
    try:
        cli.train(run, BAR.get(config.env), paths.curve(config.output, run.folder))
    except Paused:
        print(f"stopped at step {run.step:,} of {config.steps:,}, as --max-steps says; to go on from there:\n"
              f"  {cli.again(argv, run)}")
    picture(*load_agent(run.folder / "checkpoint.pt"), paths.pictures(config.output))


def picture(agent, config, pictures):
    """The open-loop dream of an agent, trained to the end or so far, as GIF and as PNG in the folder `pictures`."""
    seed = derived_seed(config.seed, 4)
    episode, = record(agent, config.env, 1, seed, longest=CONTEXT + HORIZON)
    draw = Draw(torch.Generator().manual_seed(seed))
    try:
        real, dreamed = triptych.pictures(config.env, *triptych.dream(agent, episode, CONTEXT, HORIZON, draw))
    except TaskError as error:
        print(f"no moving picture: {error}")
        return
    path = pictures / f"08_dream_{paths.named(config.env)}.gif"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_gif(triptych.frames(real, dreamed), path)
    triptych.strip(real, dreamed).save(path.with_suffix(".png"))
    print(f"open-loop dream: {paths.shown(path)} and {paths.shown(path.with_suffix('.png'))}")


def main(argv=None):
    """Train, report and draw; argv: flags, those of the command line if None. Returns the exit code."""
    return cli.guarded(work, argv)


if __name__ == "__main__":
    sys.exit(main())

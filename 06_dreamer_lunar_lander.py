"""Lesson 6: the same agent on a task with contacts and a reward of many parts: DreamerV3 lands on the moon.

Goal            Learn to tell a healthy run from a sick one. Eight numbers to see, three engines to fire,
                rewards from -100 to 100: here it is no longer plain which part is at fault if it does not
                learn, and the health panel (dreamer/visual/health.py) answers that part by part.
Read before     Lessons 2 to 5. Needs Box2D: pip install "gymnasium[box2d]"; without it this lesson says so
                in one sentence and stops, and all others work.
Time            41 to 48 minutes per seed on one CPU core with --compile, another run on the second core; without it about 70
                alone (estimated), and 105 to 127 where two or three runs shared two cores (measured with an earlier recipe).

What you should see
    steps 1 to 1000       held random actions; the lander crashes, returns around -200
    until step 10,000     it learns not to crash first: evaluations from -330 to 160
    until step 20,000     it comes down: 20 to 220
    then                  it learns to rest: 150 to 270 with seeds 1 and 2, 70 to 210 with seed 0, which is above 210 from
                          step 52,500 on
Solved means: the mean of 50 fresh greedy episodes at the end is at least 200: 215, 259 and 219 with three seeds.
What it took to switch the engines off is a story of its own (LOG.md, notebook 6).

Files written, in runs/LunarLander-v3-SEED (or --output): metrics.jsonl, checkpoint.pt, summary.json, and
assets/curve_LunarLander-v3-SEED.png (curve.png in --output), as in lesson 2; and assets/06_health_panel.png (with
--output there, too), a checkup of the trained agent, if it was trained on this task.
Try             python 06_dreamer_lunar_lander.py --panel --output runs/shipped      the checkup of the shipped agent, and no training
Next            07_dreamer_minigrid.py: symbols, and memory (it needs MiniGrid).
"""

import sys
from dataclasses import dataclass

import torch

from dreamer.config import Config
from dreamer.tools import lesson_flags
from dreamer.training import cli, paths
from dreamer.training.bar import Bar
from dreamer.training.loop import derived_seed
from dreamer.training.shipping import load_agent, shipped
from dreamer.visual import health

DEFAULTS = Config(env="LunarLander-v3", steps=60_000, eval_every=2500, final_episodes=50)
BAR = Bar(final=200)
HELD_OUT = 20       # episodes for the panel


@dataclass(frozen=True)
class Own:
    """What only this lesson can be told."""
    panel: bool = False
    """train nothing: draw the health panel of the shipped agent"""


def work(argv, runs):
    own, config = lesson_flags.read(Own(), DEFAULTS, argv, __doc__)
    lesson_flags.alone(lesson_flags.given(Own(), argv), "panel", ("output",))
    pictures = paths.pictures(config.output)
    if own.panel:
        torch.set_num_threads(1)
        return draw_panel(shipped(DEFAULTS.env), None, "the shipped agent", pictures)       # its metrics.jsonl is not shipped
    run = cli.start(config, argv, runs)
    cli.train(run, BAR if config.env == DEFAULTS.env else None, paths.curve(config.output, run.folder))
    if config.env == DEFAULTS.env:
        draw_panel(run.folder / "checkpoint.pt", run.folder / "metrics.jsonl", f"seed {config.seed}", pictures)


def draw_panel(checkpoint, metrics, name, pictures):
    """Load an agent, measure it on fresh episodes, draw into the folder `pictures`."""
    agent, config = load_agent(checkpoint)
    file = pictures / "06_health_panel.png"
    health.save(health.examine(agent, config.env, HELD_OUT, derived_seed(config.seed, 4), metrics), file, f"{config.env}, {name}")
    print(f"health panel: {paths.shown(file)}")


def main(argv=None):
    """Train, report and draw; argv: flags, those of the command line if None. Returns the exit code."""
    return cli.guarded(work, argv)


if __name__ == "__main__":
    sys.exit(main())

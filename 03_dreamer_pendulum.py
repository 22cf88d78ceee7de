"""Lesson 3: the same agent, the same hyperparameters, continuous actions: DreamerV3 swings up a pendulum.

Goal            See that nothing of lesson 2 was made for CartPole. The actor is now a bounded normal
                (dreamer/distributions.py), rewards are negative and far from 1, and an episode never
                terminates: it is truncated after 200 steps, which is not the same.
Read before     Lesson 2; BoundedNormal in dreamer/distributions.py.
Time            About 6 to 10 minutes per seed on one CPU core that other work shares.

What you should see
    steps 1 to 1000       random torques, returns around -1200
    steps 2000 to 4000    the pendulum learns to swing up and stay there, evaluations climb past -200
    from step 4000        evaluations (20 starts each) from -115 to -200, most around -150, which is about the best there is
Solved means: the mean of 50 fresh greedy episodes at the end is at least -200.

Files written, in runs/Pendulum-v1-SEED (or --output): metrics.jsonl, checkpoint.pt, summary.json,
and assets/curve_Pendulum-v1-SEED.png (curve.png in --output), as in lesson 2.
Next            04_visualize.py: look inside the agents that were trained so far.
"""

import sys

from dreamer.config import Config
from dreamer.training.bar import Bar
from dreamer.training.cli import run_lesson

DEFAULTS = Config(env="Pendulum-v1", steps=10_000, eval_every=1000, final_episodes=50)
BAR = Bar(final=-200)


def main(argv=None):
    """Train and report; argv: flags, those of the command line if None. Returns the exit code."""
    return run_lesson(DEFAULTS, BAR, argv, about=__doc__)


if __name__ == "__main__":
    sys.exit(main())

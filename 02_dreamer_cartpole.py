"""Lesson 2: DreamerV3 balances a pole, from nothing to solved within minutes.

Goal            See the whole algorithm at work on its smallest task: a world model learned from
                a few thousand steps, and an actor and a critic that learn only inside its dreams.
Read before     dreamer/config.py, then the files of dreamer/ in the order of their steps 1 to 12,
                and dreamer/training/loop.py.
Time            About 5 to 10 minutes per seed on one CPU core, with other work on the other.

What you should see
    steps 1 to 1000       held random actions; the pole falls after about 14 steps
    steps 1000 to 4000    the reconstruction loss drops below 0.05; the evaluations climb past 200, on some seeds
                          to 500 at once, on others they stay there a while: an upright pole on a cart that rolls off
    from step 5000        the greedy evaluations are 500 or nearly, the longest episode there is, on each of seeds 0 to 4
Solved means: the mean of 100 fresh greedy episodes at the end is at least 475, and the mean of the
evaluations at 5000, 6000, 7000 and 8000 steps is at least 465. Single evaluations may dip: the
agent keeps learning, and what counts is that it stays good, not that it was good once.

Files written, in runs/CartPole-v1-SEED (or --output)
    metrics.jsonl         losses, returns and speed, one line every 250 steps
    checkpoint.pt         everything needed to go on after a stop: run the same command again
    summary.json          hyperparameters, versions, the return of every evaluation episode
and assets/curve_CartPole-v1-SEED.png (curve.png in --output): the evaluations, greedy and sampled, beside the bar

Next            03_dreamer_pendulum.py: the same for continuous actions.

Try             python 02_dreamer_cartpole.py --seed 1
                python 02_dreamer_cartpole.py --help                all hyperparameters
                python 02_dreamer_cartpole.py --recipe official --output runs/official       the paper's values: six times the time, and learns later
                python 02_dreamer_cartpole.py --env Acrobot-v1 --output runs/acrobot-8000    any Gymnasium task (lesson 5 has its own run of this one)
"""

import sys

from dreamer.config import Config
from dreamer.training.bar import Bar
from dreamer.training.cli import run_lesson

DEFAULTS = Config(env="CartPole-v1", steps=8000, eval_every=1000)
BAR = Bar(final=475, window=465, at=(5000, 6000, 7000, 8000))


def main(argv=None):
    """Train and report; argv: flags, those of the command line if None. Returns the exit code."""
    return run_lesson(DEFAULTS, BAR, argv, about=__doc__)


if __name__ == "__main__":
    sys.exit(main())

"""Lesson 5: the same agent and the same hyperparameters under a sparse reward: DreamerV3 swings up an acrobot.

Goal            See what learns when every step pays -1 until the goal ends the episode: exploration (held
                random actions, entropy), a scale of returns with a floor, and terminal states,
                the only thing that tells a good action from a bad one here.
Read before     Lessons 2 to 4; hold_or_draw in dreamer/training/collect.py, ReturnNorm in
                dreamer/behavior/returns.py, continue_logit in dreamer/world_model/model.py.
Time            About 8 to 14 minutes per seed on one CPU core that other work shares.

What you should see (seed 0)
    steps 1 to 1000       held random actions, a few episodes of up to 500 steps; some reach the goal
    steps 1000 to 3000    the goal is in the replay buffer: evaluations climb from -500 to -327 and -118, while the
                          entropy falls from ln 3 = 1.10 to .47
    from step 3000        evaluations from -118 to -77: the acrobot swings up in some 80 steps in the end
Solved means: the mean of 50 fresh greedy episodes at the end is at least -100.

Files written, in runs/Acrobot-v1-SEED (or --output): metrics.jsonl, checkpoint.pt, summary.json,
and assets/curve_Acrobot-v1-SEED.png (curve.png in --output), as in lesson 2.
Next            06_dreamer_lunar_lander.py: many rewards at once, contacts, and how to see that a run is healthy.
"""

import sys

from dreamer.config import Config
from dreamer.training.bar import Bar
from dreamer.training.cli import run_lesson

DEFAULTS = Config(env="Acrobot-v1", steps=12_000, eval_every=1000, final_episodes=50)
BAR = Bar(final=-100)


def main(argv=None):
    """Train and report; argv: flags, those of the command line if None. Returns the exit code."""
    return run_lesson(DEFAULTS, BAR, argv, about=__doc__)


if __name__ == "__main__":
    sys.exit(main())

"""Lesson 1: a world model, learned from nothing but random actions, predicts the future with its eyes closed.

Goal            See what everything later stands on: encoder, RSSM and decoder with reward and continue
                heads, trained alone. No actor, no critic, no dream of a policy yet.
Read before     dreamer/config.py, then steps 1 to 6 of dreamer/ (distributions.py to world_model/model.py).
Time            About TIME minutes for both tasks on one CPU core.

What you should see
    the reconstruction loss falls below 0.1, the KL stays near its free nat (1.0)
    open loop: after 5 rows of looking, 15 steps of CartPole and of Pendulum are predicted from the
    actions alone, several times better than by "nothing changes" or "it goes on like this"
Solved means: 15 steps ahead, on episodes that were never trained on, the error is at most a third of
the better of these two predictions.

Files written   assets/01_symlog_twohot.png, assets/01_open_loop_TASK.png, and in runs/01-TASK-SEED (or --output)
                metrics.jsonl, checkpoint.pt, summary.json
Next            02_dreamer_cartpole.py: an actor and a critic that learn inside this model.

Try             python 01_world_model_demo.py --env CartPole-v1         one task only
                python 01_world_model_demo.py --steps 500               less data: where does it break?
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from dreamer.config import Config
from dreamer.distributions import Draw
from dreamer.training.cli import guarded, parse_flags, start
from dreamer.training.loop import derived_seed
from dreamer.training.offline import train_world_model
from dreamer.training.paths import ROOT
from dreamer.training.records import write_summary
from dreamer.visual import figures
from dreamer.visual.episodes import record
from dreamer.visual.openloop import error, extrapolate, open_loop, segments

TASKS = ("CartPole-v1", "Pendulum-v1")
DEFAULTS = Config(env="", steps=4000)       # no --env: both tasks
CONTEXT, HORIZON, SAMPLES, EPISODES = 5, 15, 8, 100     # rows looked at, steps predicted, dreams averaged, held out


def judge(agent, env_id, seed):
    """Open-loop errors on held-out random episodes: dict of lists (HORIZON,), in units of each number's deviation."""
    episodes = record(None, env_id, EPISODES, derived_seed(seed, 3))
    rows = segments(episodes, CONTEXT + HORIZON, every=5)
    draw = Draw(torch.Generator().manual_seed(seed))
    said = open_loop(agent, rows, CONTEXT, draw, SAMPLES)
    truth = rows["obs"]["vector"][:, CONTEXT:]
    scale = torch.cat([e.obs["vector"] for e in episodes]).std(0)
    same, further = extrapolate(rows, CONTEXT)
    return {"model": error(said["vector"].mean(0), truth, scale).tolist(),
            "no change": error(same, truth, scale).tolist(), "constant change": error(further, truth, scale).tolist()}


def learn(config, argv, runs):
    """One task: random data, world model, figure, bar. Returns the summary."""
    config = replace(config, prefill=config.steps, output=config.output or str(ROOT / "runs" / f"01-{config.env}-{config.seed}"))
    run = start(config, argv, runs)
    agent = train_world_model(run)
    errors = judge(agent, config.env, config.seed)
    ratio = errors["model"][-1] / min(errors["no change"][-1], errors["constant change"][-1])
    print(f"{'bar met:     ' if ratio <= 1 / 3 else 'bar not met: '}{config.env}, {HORIZON} steps ahead: error "
          f"{errors['model'][-1]:.3f} (no change {errors['no change'][-1]:.3f}, constant change "
          f"{errors['constant change'][-1]:.3f}): {ratio:.2f} of the better, wanted 0.33")
    figures.open_loop(agent, config.env, errors, ROOT / "assets" / f"01_open_loop_{config.env}.png", CONTEXT, HORIZON)
    summary = {"task": config.env, "seed": config.seed, "steps": run.step, "updates": run.learner.updates,
               "seconds": run.records.seconds, "errors": errors, "ratio": ratio}
    write_summary(run.folder / "summary.json", summary)
    return summary


def work(argv, runs):
    config = parse_flags(DEFAULTS, argv, __doc__)
    figures.symlog_twohot(ROOT / "assets" / "01_symlog_twohot.png")
    for env_id in [config.env] if config.env else TASKS:
        learn(replace(config, env=env_id), argv, runs)


def main(argv=None):
    """Train and report; argv: flags, those of the command line if None. Returns the exit code."""
    return guarded(work, argv)


if __name__ == "__main__":
    sys.exit(main())

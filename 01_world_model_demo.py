"""Lesson 1: a world model, learned from nothing but random actions, predicts the future with its eyes closed.

Goal            See what everything later stands on: encoder, RSSM and decoder with reward and continue
                heads, trained alone. No actor, no critic, no dream of a policy yet.
Read before     dreamer/config.py, then steps 1 to 6 of dreamer/ (distributions.py to world_model/model.py).
Time            About 4 to 6 minutes for both tasks on one CPU core.

What you should see
    the reconstruction loss falls to 0.012 (CartPole) and 0.003 (Pendulum), the KL settles at 0.6 and 1.4 nats
    open loop: after 5 rows of looking, 15 steps are predicted from the actions alone. With seed 0 the
    error is 0.24 (CartPole) and 0.11 (Pendulum) of the better of two predictions that need no model,
    "nothing changes" and "it goes on like this"
Solved means: 15 steps ahead, on episodes that were never trained on, the error is at most a third of
the better of these two predictions.

Files written   assets/01_symlog_twohot.png, assets/01_open_loop_TASK.png, and in runs/01-TASK-SEED
                metrics.jsonl, checkpoint.pt, summary.json; with --output all there,
                those of two tasks in a folder each; with --draw the pictures alone. A line is
                logged every 50 updates; flags of logging, evaluation and actor do nothing here
Next            02_dreamer_cartpole.py: an actor and a critic that learn inside this model.

Try             python 01_world_model_demo.py --env CartPole-v1                 one task only
                python 01_world_model_demo.py --steps 500 --output runs/few     less data: where does it break?
                python 01_world_model_demo.py --draw --output runs/shipped      the shipped models, and no training
"""

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from dreamer.config import Config
from dreamer.distributions import Draw
from dreamer.tools import lesson_flags
from dreamer.training import paths
from dreamer.training.cli import guarded, start
from dreamer.training.envs import TaskError
from dreamer.training.loop import derived_seed
from dreamer.training.offline import check_enough, train_world_model
from dreamer.training.records import versions, write_summary
from dreamer.training.shipping import load_agent, shipped_model
from dreamer.training.validate import ConfigError
from dreamer.visual import figures
from dreamer.visual.episodes import record
from dreamer.visual.openloop import changing, error, extrapolate, open_loop, segments

TASKS = ("CartPole-v1", "Pendulum-v1")
DEFAULTS = Config(steps=8000)               # without --env: both tasks
CONTEXT, HORIZON, SAMPLES = 5, 15, 8        # rows looked at, steps predicted, dreams averaged
EPISODES, LONGEST, SEGMENTS = 200, 500, 300     # held-out episodes, their longest, segments judged
BAR = 1 / 3                                 # largest error, relative to the better of the two baselines


@dataclass(frozen=True)
class Own:
    """What only this lesson can be told."""
    draw: bool = False
    """train nothing: judge and draw the shipped models, or the one of --env"""


def held_out(env_id, seed):
    """Segments of random episodes that were never trained on (see `segments`), and the scale of their numbers (V,)."""
    episodes = record(None, env_id, EPISODES, derived_seed(seed, 3), longest=LONGEST)
    try:
        rows = segments(episodes, CONTEXT + HORIZON)
    except ValueError as problem:
        raise TaskError(f"{env_id} cannot be predicted {HORIZON} steps ahead: {problem}") from None
    count = len(rows["reward"])
    some = torch.linspace(0, count - 1, min(count, SEGMENTS)).long()        # evenly spread over all episodes
    rows = {k: v[some] if k != "obs" else {name: x[some] for name, x in v.items()} for k, v in rows.items()}
    scale = torch.cat([e.obs["vector"] for e in episodes]).std(0)
    if not changing(scale).any():
        raise TaskError(f"the observations of {env_id} never change under random actions; there is nothing to predict")
    return rows, scale


def judge(agent, rows, scale, seed):
    """What the model says with its eyes closed (see `open_loop`), and the errors of three predictions.

    The errors: dict of lists (HORIZON,), in units of `scale`, of the numbers that change at all.
    """
    said = open_loop(agent, rows, CONTEXT, Draw(torch.Generator().manual_seed(seed)), SAMPLES)
    truth, (same, further) = rows["obs"]["vector"][:, CONTEXT:], extrapolate(rows, CONTEXT)
    predictions = {"model": said["vector"].mean(0), "no change": same, "constant change": further}
    return said, {name: error(predicted, truth, scale).tolist() for name, predicted in predictions.items()}


def train(config, argv, runs):
    """Random data, then the world model: the run and its averaged agent."""
    run = start(config, argv, runs)
    check_enough(run)
    if not run.envs.spec.vector:
        raise TaskError(f"the observations of {config.env} hold no numbers; this lesson measures errors of numbers")
    return run, train_world_model(run).cpu()


def show(agent, env_id, seed, pictures):
    """Judge a model on held-out episodes: figure in the folder `pictures`, bar. Returns what a summary says of it."""
    rows, scale = held_out(env_id, seed)
    said, errors = judge(agent, rows, scale, seed)
    model, *others = (values[-1] for values in errors.values())
    ratio = model / min(others)
    print(f"{'bar met:     ' if ratio <= BAR else 'bar not met: '}{env_id}, {HORIZON} steps ahead: error {model:.3f} "
          f"(no change {others[0]:.3f}, constant change {others[1]:.3f}): {ratio:.2f} of the better, wanted {BAR:.2f}")
    picture = pictures / f"01_open_loop_{paths.named(env_id)}.png"
    figures.open_loop(env_id, rows, said, errors, CONTEXT, picture)
    print(f"files: {paths.shown(picture)}", end="")
    return {"errors": errors, "ratio": ratio}


def learn(config, pictures, argv, runs):
    """One task: random data, world model, figure, bar, summary.json."""
    run, agent = train(config, argv, runs)
    found = show(agent, config.env, config.seed, pictures)
    write_summary(run.folder / "summary.json", {
        "task": config.env, "seed": config.seed, "steps": run.step, "updates": run.learner.updates,
        "seconds": run.records.seconds, "config": asdict(run.config), "versions": versions(), **found})
    print(f", {paths.shown(run.folder)}/summary.json, metrics.jsonl, checkpoint.pt")


def work(argv, runs):
    own, config = lesson_flags.read(Own(), DEFAULTS, argv, __doc__)
    named = lesson_flags.given(Own(), argv)
    lesson_flags.alone(named, "draw", ("env", "output"))
    if own.draw and "env" in named and config.env not in TASKS:
        raise ConfigError(f"--draw: there are shipped models of {' and '.join(TASKS)}, not of {config.env}; train one without --draw")
    pictures = paths.pictures(config.output)
    figures.symlog_twohot(pictures / "01_symlog_twohot.png")
    for env_id in [config.env] if "env" in named else TASKS:
        if own.draw:
            agent, trained = load_agent(shipped_model(env_id))
            show(agent, env_id, trained.seed, pictures)
            print()
            continue
        folder = paths.ROOT / "runs" / f"01-{paths.named(env_id)}-{config.seed}"
        if config.output:
            folder = Path(config.output) if "env" in named else Path(config.output) / paths.named(env_id)
        learn(replace(config, env=env_id, output=str(folder)), pictures, argv, runs)


def main(argv=None):
    """Train and report; argv: flags, those of the command line if None. Returns the exit code."""
    return guarded(work, argv)


if __name__ == "__main__":
    sys.exit(main())

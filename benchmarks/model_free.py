"""Model-free reference runs on the lessons' tasks and steps, to stand beside our results. No part of the course.

    pip install stable-baselines3 && python benchmarks/model_free.py            # all, some 20 minutes on one core
    python benchmarks/model_free.py --tasks CartPole-v1 --seeds 1               # one

Algorithms of Stable-Baselines3 with the settings that its "zoo" publishes as tuned for each task
(github.com/DLR-RM/rl-baselines3-zoo, hyperparams/dqn.yml, ppo.yml, sac.yml), but for the number of steps: the
lesson's. The settings were tuned for more steps than that, and say so in `published_steps`. The results
go into assets/results.json under "references"; `python train_all.py --plots` draws them.
"""

import argparse
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import gymnasium as gym
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "assets"
sys.path.insert(0, str(ROOT))

from dreamer.training import experiments, results       # noqa: E402
from dreamer.training.records import hardware            # noqa: E402

WIDE = {"policy_kwargs": {"net_arch": [256, 256]}}
PATIENT = dict(learning_rate=6.3e-4, batch_size=128, buffer_size=50_000, learning_starts=0, gamma=0.99, target_update_interval=250,
               train_freq=4, gradient_steps=-1, exploration_fraction=0.12, exploration_final_eps=0.1, **WIDE)
RUNS = [    # lesson, task, algorithm, settings, environments, published steps
    ("02_dreamer_cartpole", "CartPole-v1", "DQN", dict(
        learning_rate=2.3e-3, batch_size=64, buffer_size=100_000, learning_starts=1000, gamma=0.99, target_update_interval=10,
        train_freq=256, gradient_steps=128, exploration_fraction=0.16, exploration_final_eps=0.04, **WIDE), 1, 50_000),
    ("02_dreamer_cartpole", "CartPole-v1", "PPO", dict(
        learning_rate=1e-3, n_steps=32, batch_size=256, gae_lambda=0.8, gamma=0.98, n_epochs=20, ent_coef=0.0, clip_range=0.2,
        linear=True), 8, 100_000),
    ("03_dreamer_pendulum", "Pendulum-v1", "SAC", dict(learning_rate=1e-3), 1, 20_000),
    ("05_dreamer_acrobot", "Acrobot-v1", "DQN", PATIENT, 1, 100_000),
    ("06_dreamer_lunar_lander", "LunarLander-v3", "DQN", PATIENT, 1, 100_000),
]


def build(algorithm, task, settings, envs, seed):
    """An agent of Stable-Baselines3; `linear` lets learning rate and clip range fall to 0 over the run."""
    import stable_baselines3 as sb3
    from stable_baselines3.common.env_util import make_vec_env
    settings = dict(settings)
    if settings.pop("linear", False):
        for name in ("learning_rate", "clip_range"):
            settings[name] = (lambda top: lambda left: left * top)(settings[name])
    return getattr(sb3, algorithm)("MlpPolicy", make_vec_env(task, envs, seed=seed), seed=seed, device="cpu", **settings)


def score(agent, task, episodes, seed):
    """Returns of fresh greedy episodes."""
    env, returns = gym.make(task), []
    for episode in range(episodes):
        obs, total, over = env.reset(seed=seed + episode)[0], 0.0, False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(agent.predict(obs, deterministic=True)[0])
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    return returns


def run(lesson, task, algorithm, settings, envs, published, seed):
    """Train for the lesson's steps, and on to the end of a block of them (256 on CartPole); evaluate as often as the lesson does.

    Returns an entry for assets/results.json.
    """
    from stable_baselines3.common.callbacks import EveryNTimesteps, BaseCallback

    class Evaluate(BaseCallback):
        def _on_step(self):
            curve.append([self.num_timesteps, float(np.mean(score(self.model, task, 20, 10_000 * (seed + 1))))])
            return True

    budget = experiments.load(lesson).defaults
    agent, curve, started = build(algorithm, task, settings, envs, seed), [], time.monotonic()
    agent.learn(budget.steps, callback=EveryNTimesteps(budget.eval_every, Evaluate()))
    seconds = time.monotonic() - started
    returns = score(agent, task, budget.final_episodes, 1_000_000 + seed)
    print(f"{task} {algorithm} seed {seed}: {np.mean(returns):.1f} after {agent.num_timesteps} steps, {seconds:.0f} s", flush=True)
    return {"lesson": lesson, "task": task, "algorithm": algorithm, "seed": seed, "steps": budget.steps,
            "steps_trained": agent.num_timesteps, "final": {"greedy": returns},
            "curve": curve, "seconds": round(seconds), **hardware(),
            "published_steps": published, "settings": settings, "envs": envs,
            "command": f"python benchmarks/model_free.py --tasks {task}",
            "versions": {name: version(name) for name in ("stable-baselines3", "torch", "gymnasium")}}


def store(entries):
    """Put the entries into assets/results.json in place of older ones of the same task, algorithm and seed."""
    stored = results.read(ASSETS)
    key = lambda e: (e["lesson"], e["algorithm"], e["seed"])        # noqa: E731
    merged = {key(e): e for e in [*stored.get(results.REFERENCES, []), *entries]}
    stored[results.REFERENCES] = [merged[k] for k in sorted(merged)]
    results.write(ASSETS / "results.json", stored)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = sorted({r[1] for r in RUNS})
    parser.add_argument("--tasks", nargs="+", default=tasks, choices=tasks, help="tasks to run")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to this, less one")
    parser.add_argument("--save", type=Path, help="write the entries to this file as well")
    options = parser.parse_args(argv)
    try:
        import torch
        import stable_baselines3        # noqa: F401
    except ImportError:
        sys.exit("benchmarks/model_free.py needs Stable-Baselines3: pip install stable-baselines3")
    torch.set_num_threads(1)
    results.read(ASSETS)                # if it is damaged, now is the time to say so
    entries, jobs = [], [(*job, seed) for job in RUNS if job[1] in options.tasks for seed in range(options.seeds)]
    try:
        for job in jobs:
            entries.append(run(*job))
            store(entries[-1:])
    except KeyboardInterrupt:
        left = sorted({task for _, task, *_ in jobs[len(entries):]})
        print("\nstopped; finished runs are stored; for the others, each task from its first run on:\n"
              f"  python benchmarks/model_free.py --tasks {' '.join(left)} --seeds {options.seeds}"
              + f" --save {options.save}" * bool(options.save), file=sys.stderr)
        return 130
    if options.save:
        options.save.write_text(json.dumps(entries))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())

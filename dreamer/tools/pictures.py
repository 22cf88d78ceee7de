"""What trackers are shown of a run besides numbers: the health panel, a dream beside reality, and the commit."""

import copy
import subprocess
from pathlib import Path

from ..training.loop import derived_seed

EPISODES, CONTEXT, FRAMES = 20, 5, 50       # fresh episodes of each kind, rows looked at, pictures of the dream


def commit():
    """The git commit of this code, with a + if files were changed since; "" where there is no git."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=60,
                              check=True).stdout.strip()
    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def draw(run, step):
    """Write health-stepN.png and dream-stepN.gif into the run's folder: dict of name to path.

    Fresh episodes of the averaged agent, in environments of their own: the run goes on as if nothing had happened.
    """
    from ..visual import health         # here: matplotlib, which the other services do without
    from ..visual.episodes import record
    from . import dream, video
    agent, env_id = copy.deepcopy(run.learner.average).cpu(), run.config.env
    seed, panel, gif = derived_seed(run.config.seed, 6, step), f"health-step{step}.png", f"dream-step{step}.gif"
    greedy, sampled = (record(agent, env_id, EPISODES, seed, mode) for mode in (True, False))
    checkup = health.measure(agent, greedy, sampled, seed, run.records.path)
    health.save(checkup, run.folder / panel, f"{run.folder.name}, step {step}")
    number = max(range(EPISODES), key=lambda i: min(len(greedy[i]), FRAMES))
    horizon = min(len(greedy[number]), FRAMES) - CONTEXT
    images, _ = dream.draw(agent, env_id, greedy[number], CONTEXT, horizon, derived_seed(seed, number))
    video.save(images, run.folder / gif, dream.FAST)
    return {"health": run.folder / panel, "dream": run.folder / gif}

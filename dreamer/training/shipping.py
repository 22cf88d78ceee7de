"""Agents and models to look at: the checkpoint of a run, or the small one that comes with the course."""

from pathlib import Path

from . import checkpoint, experiments, paths
from ..agent import Agent
from ..config import Config
from .envs import Environments


def shipped(env_id):
    """assets/checkpoints/TASK.pt: the averaged agent of one run, in half precision (README: which)."""
    return paths.ROOT / "assets" / "checkpoints" / f"{env_id}.pt"


def shipped_model(env_id):
    """assets/world_models/TASK.pt: the same of lesson 1, of which only the world model has learned anything."""
    return paths.ROOT / "assets" / "world_models" / f"{env_id}.pt"


def ship(source, target):
    """Copy the averaged agent out of the checkpoint of a run: some 1.3 MB in place of 20 or more."""
    saved = checkpoint.load(source)
    weights = {k: v.half() if v.numel() > 100 else v for k, v in saved["average"].items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    config = {**saved["config"], "output": ""}
    checkpoint.save(target, {"config": config, "average": weights, "updates": saved["updates"]})


def place(lesson, task, assets):
    """The file in `assets` for the agent of a lesson's task, or for its world model, where the lesson trains nothing else."""
    usual = shipped(task) if lesson.acts else shipped_model(task)
    return assets / usual.parent.name / usual.name


def maker(path):
    """The lesson whose run of seed 0 is shipped at `path`; None if there is none."""
    for name in experiments.SEEDS:
        try:
            lesson = experiments.load(name)
        except experiments.LessonError:
            continue
        if path in [place(lesson, task, paths.ROOT / "assets") for task in lesson.tasks]:
            return name
    return None


def remedy(path):
    """What brings back an agent that is missing: the end of a sentence."""
    if path.parent.parent != paths.ROOT / "assets":
        return ""
    lesson = maker(path)
    return (f"; git restores it, and python train_all.py {lesson[:2]} trains and ships it anew" if lesson
            else "; if it came with the course, git restores it")


def load_agent(path):
    """The averaged agent of a checkpoint, of a run or shipped, and its Config. Raises CheckpointError, TaskError."""
    if not Path(path).exists():
        raise checkpoint.CheckpointError(f"there is no agent at {paths.shown(path)}{remedy(Path(path))}")
    saved = checkpoint.load(path)
    try:
        for name in saved["average"]:
            if name.startswith("without_"):         # dreamer/tools/ablations.py
                part = name.removeprefix("without_").replace("_", "-")
                raise checkpoint.CheckpointError(f"{path} is an agent of lesson 7 --without {part}; only that lesson's "
                                                 "own script can play it")
        config = Config(**saved["config"])
        envs = Environments(config.env, 1, config.seed)
        agent = Agent(envs.spec, envs.actions, envs.discrete, config).requires_grad_(False)
        envs.close()
        agent.load_state_dict({k: v.float() for k, v in saved["average"].items()})
    except (KeyError, TypeError, RuntimeError) as error:
        raise checkpoint.CheckpointError(f"{path} was written by another version of the course ({type(error).__name__}); "
                                         "delete it, and train or restore it anew") from None
    return agent, config


def find_agent(env_id, seed=0):
    """The agent of runs/TASK-seed if that run has a checkpoint (its last one, or the one that a kill between two left),
    else the shipped one: agent, config, path.

    Raises CheckpointError that says what makes one if there is neither.
    """
    own = paths.run_folder(env_id, seed) / "checkpoint.pt"
    for path in (own, checkpoint.previous(own), shipped(env_id)):
        if path.exists():
            return *load_agent(path), path
    lesson = maker(shipped(env_id))
    several = not lesson or len(experiments.load(lesson).tasks) > 1
    script = f"{lesson or '02_dreamer_cartpole'}.py" + f" --env {env_id}" * several
    raise checkpoint.CheckpointError(f"there is no trained agent for {env_id}: neither {paths.shown(shipped(env_id))} nor a run of "
                                     f"seed {seed} in runs/; python {script} --seed {seed} makes one")

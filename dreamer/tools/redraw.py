"""The pictures of shipped agents and models again, each drawn by its lesson."""

import shlex
import subprocess
import sys

from ..training import experiments
from ..training.paths import shown
from ..training.shipping import place
from ..visual import maps


def look(drawn, assets):
    """Let the lessons draw the shipped agents and models of `drawn`, (lesson, task) of each. Returns 1 if one of them could not, else 0."""
    if assets != experiments.SCRIPTS / "assets":
        return 0                        # agents elsewhere are not those that the lessons look at
    commands = [(f"{name}.py", "--draw", "--env", task) for name, task in drawn if not experiments.load(name).acts]
    tasks = [task for name, task in drawn if experiments.load(name).acts]
    commands += [("04_visualize.py", "--shipped", "--env", task) for task in maps.TASKS if task in tasks]
    commands += [("06_dreamer_lunar_lander.py", "--panel")] * ("LunarLander-v3" in tasks)
    commands += [(f"{name}.py", "--dream", "--env", task) for name in experiments.SEEDS if name in experiments.IF_NAMED
                 for task in experiments.load(name).tasks if task in tasks]
    return max((call(*command) for command in commands), default=0)


def call(script, *flags):
    """Run a lesson that draws. Returns 1, and names it, if it could not, else 0."""
    failed = subprocess.run([sys.executable, str(experiments.SCRIPTS / script), *flags]).returncode
    if failed:
        print(f"failed: {shlex.join([script, *flags])}")
    return int(bool(failed))


def shipped_tasks(names, assets):
    """(lesson, task) of all agents and models that are shipped of these lessons; those that are missing are named."""
    found, here = [], assets == experiments.SCRIPTS / "assets"
    for name, task in [(name, task) for name in names for task in experiments.load(name).tasks]:
        file = place(experiments.load(name), task, assets)
        if file.exists():
            found.append((name, task))
        elif here:
            print(f"{name}, {task}: {shown(file)} is missing, its pictures stay as they are")
    return found

"""Writes configs/: one YAML file for each lesson and task, from the lessons themselves.

    python -m dreamer.tools.configs
"""

from ..training import experiments
from ..training.paths import run_folder, shown
from .yaml_config import dump

FOLDER = experiments.SCRIPTS / "configs"


def files():
    """Name and text of every file. Raises LessonError if a lesson cannot be read."""
    found = {}
    for lesson in map(experiments.load, experiments.SEEDS):
        for task in lesson.tasks:
            name = f"{lesson.number}-{run_folder(task, 0).name.removesuffix('-0')}.yaml"
            mode = "" if lesson.acts else " --mode world-model"
            comment = (f"Lesson {lesson.name}, {task}. Written by: python -m dreamer.tools.configs\n"
                       f"Use: python -m dreamer train --config configs/{name}{mode}")
            found[name] = dump(lesson.of(task).defaults, comment)
    return found


def write():
    """Write what has changed, and remove what no lesson has any more."""
    FOLDER.mkdir(exist_ok=True)
    wanted = files()
    for file in FOLDER.glob("*.yaml"):
        if file.name not in wanted:
            file.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8", newline="\n")
        print(shown(FOLDER / name))


if __name__ == "__main__":
    write()

"""Where things lie: runs/ and assets/ stand beside the package, wherever a script is started from."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_folder(env_id, seed):
    """runs/TASK-seed, without the characters of an environment id that no file name can have."""
    return ROOT / "runs" / f"{env_id.replace('/', '-').replace(':', '-')}-{seed}"


def shown(path):
    """`path` as a reader wants to see it: relative to the current folder if it lies in there."""
    path = Path(path).absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path

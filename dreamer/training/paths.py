"""Where things lie: runs/ and assets/ stand beside the package, wherever a script is started from."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def named(env_id):
    """The id of an environment as a part of a file name, without the characters that none can have."""
    return env_id.replace("/", "-").replace(":", "-")


def run_folder(env_id, seed):
    """runs/TASK-seed"""
    return ROOT / "runs" / f"{named(env_id)}-{seed}"


def pictures(output):
    """Folder of a script's pictures: assets/, whose pictures the README shows, or what --output names, if it names any."""
    return Path(output) if output else ROOT / "assets"


def curve(output, folder):
    """Where a lesson draws the evaluations of its run: assets/curve_NAME.png for runs/NAME, or curve.png in what --output names."""
    return folder / "curve.png" if output else pictures(output) / f"curve_{folder.name}.png"


def shown(path):
    """`path` as a reader wants to see it: relative to the current folder if it lies in there."""
    path = Path(path).absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path

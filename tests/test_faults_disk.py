"""A disk that is full while a checkpoint is written: the previous one stays, one line says so, and the run goes on later."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import killer
from dreamer.config import Config
from dreamer.training import checkpoint
from dreamer.training.cli import run_lesson
from dreamer.training.loop import Run
from faults import begun_again, flags, noted, short

resource = pytest.importorskip("resource", reason="files of Windows have no size limit to set")


@pytest.fixture(autouse=True)
def elsewhere(tiny_size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The folder of a run on a disk with room for everything."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        import toys
        patch.setitem(toys.SIZES, "1m", toys.TINY)
        Run(roomy(output=str(folder))).train()
    return folder


def roomy(**changes):
    """A run whose checkpoints grow with every row until the end."""
    return short(**{"capacity": 200, "steps": 64, **changes})


@contextmanager
def files_of_at_most(size):
    """The system refuses to let a file of this process grow any further, in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0.05, 0.5, 1])
def test_a_file_that_cannot_grow_leaves_the_previous_checkpoint(room, uninterrupted, capfd):
    """room: the share of the checkpoint that fits on the disk; 1: it is a few rows larger than the one before it."""
    assert run_lesson(Config(), None, flags(roomy(output="run", steps=30))) == 0
    path = Path("run/checkpoint.pt")
    before, size = path.read_bytes(), path.stat().st_size
    Path("run/summary.json").unlink()
    capfd.readouterr()
    with files_of_at_most(int(size * room)):
        code = run_lesson(Config(), None, flags(roomy(output="run")))
    error = capfd.readouterr().err
    assert code == 1 and error.count("\n") == 1 and "File too large" in error
    assert error.startswith("error: cannot use run") and "checkpoint.pt" in error
    assert path.read_bytes() == before and not list(Path("run").glob("*.tmp")) and not Path("run/summary.json").exists()


def test_a_run_goes_on_when_there_is_room_again(uninterrupted):
    size = (uninterrupted / "checkpoint.pt").stat().st_size
    with files_of_at_most(size - 2000):         # the first checkpoints fit, the last does not
        assert run_lesson(Config(), None, flags(roomy(output="run"))) == 1
    assert 10 <= checkpoint.load("run/checkpoint.pt")["saved_at"] < 64
    Run(roomy(output="run"), watchers=[noted]).train()
    assert begun_again("run")[0] >= 10
    assert killer.results(Path("run")) == killer.results(uninterrupted)


def test_ctrl_c_while_a_checkpoint_is_written_names_the_one_that_is_whole(capfd, monkeypatch):
    write, calls = checkpoint.Digester.write, []

    def interrupted(digester, data):
        calls.append(1)
        if len(calls) == 2000:
            raise KeyboardInterrupt
        return write(digester, data)
    monkeypatch.setattr(checkpoint.Digester, "write", interrupted)
    assert run_lesson(Config(), None, flags(roomy(output="run"))) == 130
    step = checkpoint.load("run/checkpoint.pt")["saved_at"]
    assert step >= 10 and f"To go on from the checkpoint of step {step}:" in capfd.readouterr().err


def test_ctrl_c_between_the_renamings_of_two_checkpoints_leaves_the_older_one_in_its_place(capfd, monkeypatch):
    replace = os.replace

    def interrupted(source, target):
        replace(source, target)
        if Path(target).name == "checkpoint-previous.pt":
            raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "replace", interrupted)
        assert run_lesson(Config(), None, flags(roomy(output="run"))) == 130
    step = checkpoint.load("run/checkpoint.pt")["saved_at"]
    assert step >= 10 and f"To go on from the checkpoint of step {step}:" in capfd.readouterr().err
    assert run_lesson(Config(), None, flags(roomy(output="run"))) == 0 and not capfd.readouterr().err


# ------------------------------------------------------------------ a real one

# Runs twice in a folder on a disk of its own: first it is too small, then it is made larger.
ON_A_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
tests, disk, size = sys.argv[1:]
sys.path[:0] = [tests, str(Path(tests).parent)]
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
import toys
from dreamer.config import Config
from dreamer.training import checkpoint
from dreamer.training.cli import run_lesson
from faults import flags
from test_faults_disk import roomy
toys.use_tiny_size()
words = flags(roomy(output=disk + "/run"))
first = run_lesson(Config(), None, words)
print("first:", first, checkpoint.load(disk + "/run/checkpoint.pt")["saved_at"], len(list(Path(disk).rglob("*.tmp"))), flush=True)
subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
print("second:", run_lesson(Config(), None, words), flush=True)
subprocess.run(["cp", "-r", disk + "/run", disk + "-kept"], check=True)
"""


def can_mount(folder):
    """May this user mount a disk of memory, in a name space of its own that leaves nothing behind?"""
    if not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True).returncode == 0


def test_a_disk_that_is_full(uninterrupted, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if not can_mount(disk):
        pytest.skip("needs unshare and mount of Linux")
    size = int(1.6 * (uninterrupted / "checkpoint.pt").stat().st_size)      # one checkpoint and half of the next
    done = subprocess.run(["unshare", "-rm", sys.executable, "-c", ON_A_SMALL_DISK, str(Path(__file__).parent), str(disk), str(size)],
                          capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.stderr == f"error: cannot use {disk}/run/checkpoint.pt: No space left on device; --output takes another folder\n"
    words = [line.split() for line in done.stdout.splitlines()]
    first = next(line for line in words if line[:1] == ["first:"])
    assert first[1] == "1" and 10 <= int(first[2]) < 64 and first[3] == "0"
    assert ["second:", "0"] in words
    assert killer.results(tmp_path / "disk-kept") == killer.results(uninterrupted)

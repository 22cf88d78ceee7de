"""Checkpoints: written atomically, read without running code, refused with one sentence if unfit.

A file is one line that names the format, one line with the SHA-256 of everything that follows, and
what `torch.save` writes. A single flipped bit is noticed before anything is made of the contents.
A run keeps its last two: where checkpoint.pt is damaged, it goes on from checkpoint-previous.pt.
"""

import hashlib
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import torch

MAGIC = b"dreamer checkpoint 1\n"
DIGEST = 64                                 # hexadecimal digits of a SHA-256
START = len(MAGIC) + DIGEST + 1             # where the payload begins


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message says why."""

    def _render_traceback_(self):
        """What a notebook shows: the message alone."""
        return [f"{type(self).__name__}: {self}"]


class DamagedError(CheckpointError):
    """A file is not what was once written."""


def previous(path):
    """Where the checkpoint before the one at `path` is kept: checkpoint-previous.pt."""
    return path.with_name(f"{path.stem}-previous{path.suffix}")


def exists(path):
    """Is there something to go on from, at `path` or before it?"""
    return path.exists() or previous(path).exists()


def remove(path):
    """Delete both, the older one first: a kill in between leaves the newer one."""
    for file in (previous(path), path):
        file.unlink(missing_ok=True)


@contextmanager
def replacing(path, keep=None):
    """Yield a new binary file that takes the name `path` once it is whole and on the disk.

    Until then it is called `path`.tmp: a full disk, an error or a kill at any moment leaves what
    was at `path` as it was. keep: the name that the old file is given, if it is not to be lost; a kill
    between the two renamings leaves it there, whole, and nothing at `path` (Ctrl-C there: it gets its name back).
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
    except BaseException as error:
        if keep and not path.exists() and keep.exists():
            os.replace(keep, path)
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)          # a write that fails does not say of which file
        raise


class Digester:
    """A file for `torch.save` that computes the checksum of what passes through."""

    def __init__(self, file):
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data):
        self.digest.update(data)
        return self.file.write(data)

    def flush(self):
        self.file.flush()


def save(path, state, keep=None):
    """Write `state` (tensors and plain Python values) to `path`, atomically (see `replacing`). Raises OSError.

    Returns the new file's fingerprint.
    """
    with replacing(path, keep) as file:
        file.write(MAGIC + b"0" * DIGEST + b"\n")
        digester = Digester(file)
        try:
            torch.save(state, digester)
        except RuntimeError as error:       # torch hides the OSError of a full disk behind its own
            raise error.__context__ or error from None
        file.seek(len(MAGIC))
        file.write(digester.digest.hexdigest().encode())
    return digester.digest.hexdigest()


def load(path):
    """Read a checkpoint onto the CPU. `weights_only`: a file can never run code of its own.

    Raises CheckpointError if there is none, or if it is not exactly what was written.
    """
    try:
        with open(path, "rb") as file:
            check_bytes(path, file)
            return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint at {path}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except CheckpointError:
        raise
    except Exception as error:              # torch has many kinds: zip, pickle, runtime, end of file
        raise DamagedError(f"{path} holds something that is no checkpoint ({type(error).__name__}); "
                           "delete it to start anew") from None


def fingerprint(path):
    """What tells the checkpoint at `path` from all others: the SHA-256 in its second line. Raises CheckpointError."""
    try:
        with open(path, "rb") as file:
            return file.read(START)[len(MAGIC):].decode(errors="replace").strip()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None


def mark(path):
    """The fingerprint of the checkpoint at `path`, "" if there is none."""
    return fingerprint(path) if path.exists() else ""


def check_own(path, mine):
    """Refuse to overwrite what another process has written: two runs in one folder would undo each other's work.

    mine: the `mark` of what this run last read from `path` or wrote there. Raises CheckpointError.
    """
    if mark(path) not in (mine, ""):
        raise CheckpointError(f"another process has written {path} since this one last used it, and this one stops for it; "
                              "two runs at a time need two --output folders")


def load_last(path):
    """The last whole checkpoint of a run whose checkpoints are written to `path`: its path, and what it holds.

    If the one at `path` is damaged or missing, that is the one before it; a damaged one is named on stderr and
    set aside, not deleted. Raises CheckpointError.
    """
    before, aside = previous(path), path.with_name(f"{path.stem}-damaged{path.suffix}")
    if path.exists() or not before.exists():
        try:
            return path, load(path)
        except DamagedError as error:
            if not before.exists():
                raise
            problem = str(error).partition(";")[0]
    else:
        problem = f"{path} is missing"
    try:
        saved = load(before)
    except DamagedError:
        raise CheckpointError(f"{problem}, and so is {before.name}; delete both to start anew") from None
    if path.exists():
        os.replace(path, aside)
        problem += f" and now called {aside.name}"
    print(f"{problem}; the checkpoint before it is used, {before.name}", file=sys.stderr)
    return before, saved


def check_bytes(path, file):
    """Raise DamagedError unless the payload has the checksum in front of it; leave `file` there."""
    head = file.read(START)
    if not head.startswith(MAGIC):
        raise DamagedError(f"{path} is damaged, or no checkpoint of this course; delete it to start anew")
    if head[len(MAGIC):] != hashlib.file_digest(file, "sha256").hexdigest().encode() + b"\n":
        raise DamagedError(f"{path} is damaged (its checksum does not match); delete it to start anew, "
                           "or restore a copy")
    file.seek(START)


def restore_draw(learner, state, seed, say):
    """Go on with the random numbers of a checkpoint. Another kind of device has others: from `seed` on, and `say` tells."""
    generator = learner.draw.generator
    if len(state) == len(generator.get_state()):
        generator.set_state(state)
        return
    generator.manual_seed(seed)
    say(f"the checkpoint was written on another kind of device than {learner.device}: other random numbers from here on")


def check_same(path, saved, wanted, names):
    """Refuse a checkpoint whose configuration differs in one of `names`. KeyError: it does not know all of them."""
    for name in sorted(names, key=lambda name: name != "recipe"):      # the recipe first: it explains other differences
        if saved[name] != wanted[name]:
            value, dashed = saved[name], name.replace("_", "-")
            flag = {True: f"--{dashed}", False: f"--no-{dashed}"}[value] if isinstance(value, bool) else f"--{dashed} {value}"
            raise CheckpointError(f"{path} was trained with {name}={value}, not {wanted[name]}; use "
                                  f"{flag} or another --output folder")

"""Checkpoints: written atomically, read without running code, refused with one sentence if unfit."""

import os
import tempfile
from pathlib import Path

import torch

FORMAT = 1


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message says why."""


def save(path, state):
    """Write `state` (tensors and plain Python values) so that `path` always holds a whole file.

    The bytes go to a temporary file beside it, reach the disk, and then take its name: a full disk
    or a kill at any moment leaves the previous checkpoint as it was.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path):
    """Read a checkpoint onto the CPU. `weights_only`: a file can never run code of its own."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint at {path}.") from None
    except Exception as error:      # torch raises many kinds: zip, pickle, runtime, EOF
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is damaged or no checkpoint of this project ({reason}); "
                              "delete it to start anew, or restore a copy.") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this project in format {FORMAT}.")
    return state


def check_same(path, saved, wanted, names):
    """Refuse a checkpoint whose configuration differs in anything that shapes the run."""
    for name in names:
        if saved.get(name) != wanted.get(name):
            raise CheckpointError(f"{path} was trained with {name}={saved.get(name)}, not {wanted.get(name)}; "
                                  f"use --{name.replace('_', '-')} {saved.get(name)} or another --output folder.")

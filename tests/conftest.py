"""Settings for all tests: one thread, no progress bars, and the toy environments are known."""

import os
import sys
from pathlib import Path

os.environ["DREAMER_QUIET"] = "1"
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import pytest
import torch

import toys
from dreamer.config import SIZES

torch.set_num_threads(1)


@pytest.fixture
def tiny_size(monkeypatch):
    """Size 1m is a very small one during the test."""
    monkeypatch.setitem(SIZES, "1m", toys.TINY)


@pytest.fixture(autouse=True)
def runs_elsewhere(tmp_path, monkeypatch):
    """Runs that name no output folder write into the test's own."""
    monkeypatch.setattr("dreamer.training.paths.ROOT", tmp_path)

"""Runs that die: imported by test_resume.py and by the processes it starts and loses."""

import json
import os
import pkgutil
import signal
from unittest import mock

import torch

from dreamer.training.loop import Run
from toys import use_tiny_size


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def half_a_line(records, *_):
    """As if the kill had come in the middle of a write to metrics.jsonl."""
    with open(records.path, "ab") as log:
        log.write(b'{"step": 42, "upda')
    die()


def killed_at(place, count, config):
    """Train, and be killed by SIGKILL at the count-th call of `place`, before it does anything."""
    use_tiny_size()
    torch.set_num_threads(1)
    module, _, name = place.rpartition(".")
    target = pkgutil.resolve_name(module)
    original, calls = getattr(target, name), 0

    def replacement(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == count:
            half_a_line(*arguments) if name == "write" and "Records" in module else die()
        return original(*arguments, **options)
    with mock.patch.object(target, name, replacement):
        Run(config).train()


def results(folder):
    """What must be the same: every line of metrics.jsonl but for its times, and all returns."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    times = ("seconds", "updates_per_second")
    return ([{k: v for k, v in line.items() if k not in times} for line in lines],
            {k: summary[k] for k in ("steps", "updates", "evaluations", "final")})

"""python -m dreamer check: every part is there, and a trick that is broken is found."""

import re

import pytest
import torch

from dreamer.__main__ import main
from dreamer.behavior.returns import ReturnNorm
from dreamer.tools import check, tricks
from dreamer.training import experiments
from dreamer.world_model.model import kl_losses


@pytest.fixture(autouse=True)
def quick(tiny_size, monkeypatch):
    monkeypatch.setattr(check, "SECONDS", 0.05)


def test_one_screen_says_what_is_here_how_fast_it_is_and_that_it_works(capsys):
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) <= 50 and f"torch {torch.__version__}" in out and "device " in out
    rate = float(re.search(r"one update, and acting for it: ([\d.]+) ms", out)[1])
    assert rate > 0
    for name in experiments.SEEDS:
        for task in experiments.load(name).tasks:
            assert re.search(rf"{name[:2]} {re.escape(task)} {'far more than ' * (task == 'walker_walk')}(at most )?(\d+|not known)", " ".join(out.split())), name
    assert "all of them work" in out and out.count(" works ") == 4 and "OFF" not in out


def test_minutes_follow_from_the_time_of_an_update(monkeypatch):
    monkeypatch.setattr(check, "seconds_per_update", lambda: (0.6, 0.6))
    updates = experiments.load("02_dreamer_cartpole").updates(experiments.load("02_dreamer_cartpole").defaults)
    assert f"02 CartPole-v1 {updates / 100:.0f}" in check.speed()[1] and "600 ms" in check.speed()[0]
    assert len(check.speed()) == 2
    monkeypatch.setattr(check, "seconds_per_update", lambda: (0.6, 0.15))
    monkeypatch.setattr(check, "pick_device", lambda name: "cpu")
    assert check.speed()[2] == "other work keeps this machine busy: alone, 0.25 of these times would do"


def test_extras_are_named_with_what_needs_them(monkeypatch, tmp_path):
    (tmp_path / "requirements-extras.txt").write_text("# for nothing\nnot-there[all]==1.0\n\n"
                                                      "numpy==2; python_version >= '3'  # to count\n"
                                                      "numpy==1; python_version < '3'\n")
    monkeypatch.setattr(experiments, "SCRIPTS", tmp_path)
    missing, present = check.extras()[1:]
    assert missing.split() == ["not-there", "is", "missing", "for", "nothing"]
    assert re.fullmatch(r"  numpy [\d.]+ +to count", present)


def test_a_long_word_on_what_needs_an_extra_is_wrapped_not_cut(monkeypatch, tmp_path):
    purpose = " ".join(f"word{i}" for i in range(30))
    (tmp_path / "requirements-extras.txt").write_text(f"# {purpose}\nnumpy\n")
    monkeypatch.setattr(experiments, "SCRIPTS", tmp_path)
    lines = check.extras()[1:]
    assert " ".join(lines).split()[2:] == purpose.split() and max(map(len, lines)) <= check.WIDTH


def broken_norm(limit=1.0):
    return ReturnNorm(limit=1e-8)


BREAKS = {
    "symlog": ("symlog", "symexp", lambda x: x),
    "two-hot": ("TwoHotHead.mean", None, lambda head, logits: head.bins[logits.argmax(-1)]),
    "percentile normalisation": ("ReturnNorm", None, broken_norm),
    "free nats": ("kl_losses", None, lambda post, prior, mix, free: kl_losses(post, prior, mix, 0.0)),
}


@pytest.mark.parametrize("trick", BREAKS)
def test_a_trick_that_is_broken_is_named_and_gives_exit_code_1(trick, capsys, monkeypatch):
    name, also, instead = BREAKS[trick]
    for target in filter(None, (name, also)):
        monkeypatch.setattr(f"dreamer.tools.tricks.{target}", instead)
    monkeypatch.setattr(check, "seconds_per_update", lambda: (1.0, 1.0))
    assert main(["check"]) == 1
    out = capsys.readouterr().out
    assert out.count("is OFF") == 1 and f"off: {trick}\n" in out and re.search(rf"{trick} +is OFF", out)


def test_the_numbers_of_a_trick_are_the_same_again():
    assert tricks.twohot_mean_of_two(20) == tricks.twohot_mean_of_two(20) != tricks.twohot_mean_of_two(30)

"""A damaged checkpoint: wherever a byte is wrong, the file is refused by name, and the one before it is used."""

import io
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

import killer
from dreamer.config import SIZES, Config
from dreamer.training import checkpoint
from dreamer.training.checkpoint import DIGEST, MAGIC, START, CheckpointError
from dreamer.training.cli import run_lesson
from dreamer.training.loop import Run
from faults import flags, short
from toys import TINY


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run, and in its `before` what it held after the third checkpoint."""
    folder, saves = tmp_path_factory.mktemp("whole"), []

    def keep_third(run, event, values):
        saves.append(event == "save")
        if saves[-1] and sum(saves) == 3:
            shutil.copytree(folder, folder.with_name("before"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "1m", TINY)
        Run(short(output=str(folder)), watchers=[keep_third]).train()
    return folder


@pytest.fixture(scope="module")
def saved(whole):
    """The bytes of a run's checkpoint."""
    return (whole / "checkpoint.pt").read_bytes()


@pytest.fixture
def stopped(whole, tmp_path, monkeypatch, tiny_size):
    """A copy of the folder run/ of a run that was stopped after its third checkpoint: the last two are there."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole.with_name("before"), "run")
    return Path("run")


def regions(data):
    """Name and first byte of every part of a checkpoint, and of its end: magic, digest, each piece of the zip file."""
    parts = {"magic": 0, "digest": len(MAGIC), "end of line": len(MAGIC) + DIGEST}
    with zipfile.ZipFile(io.BytesIO(data[START:])) as archive:
        for entry in archive.infolist():
            begin = START + entry.header_offset
            name, extra = (int.from_bytes(data[begin + i:begin + i + 2], "little") for i in (26, 28))
            parts[f"header of {entry.filename}"] = begin
            parts[f"name of {entry.filename}"] = begin + 30
            parts[f"contents of {entry.filename}"] = begin + 30 + name + extra
            parts[f"end of {entry.filename}"] = begin + 30 + name + extra + entry.compress_size
        parts["directory"] = START + archive.start_dir
    parts["end of the directory"] = data.rindex(b"PK\x05\x06")
    return parts


def refusal(path, data):
    """What is said of these bytes as a checkpoint."""
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    text = str(caught.value)
    assert str(path) in text and "damaged" in text and "\n" not in text
    return text


def flipped(data, place, mask=0x10):
    data = bytearray(data)
    data[place] ^= mask
    return bytes(data)


def test_a_byte_of_any_part_is_flipped(saved, tmp_path):
    parts = regions(saved)
    assert len(parts) > 100 and any("data.pkl" in name for name in parts) and any("data/0" in name for name in parts)
    starts = sorted({*parts.values(), len(saved)})
    for begin, end in zip(starts, starts[1:]):
        refusal(tmp_path / "checkpoint.pt", flipped(saved, (begin + end) // 2))
    refusal(tmp_path / "checkpoint.pt", flipped(saved, len(saved) - 1))


def test_every_byte_of_a_small_one_is_flipped(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"step": 7, "weights": torch.arange(3.0)})
    data = path.read_bytes()
    for place in range(len(data)):
        refusal(path, flipped(data, place, 1 << place % 8))
    path.write_bytes(data)
    assert checkpoint.load(path)["step"] == 7


def test_one_that_was_cut_off_or_grew(saved, tmp_path):
    path, places = tmp_path / "checkpoint.pt", sorted(set(regions(saved).values()))
    for place in (*places[::7], *places[-3:], len(saved) - 1):
        refusal(path, saved[:place])
    for more in (b"\0", b"\n", saved[-100:], saved):
        refusal(path, saved + more)
    for wrong in (b"", saved[1:], saved[START:], b"\n" + saved, saved[:START] + saved, saved.replace(MAGIC, MAGIC.lower()[:-2] + b"2\n", 1),
                  saved[:START] + b"\0" * (len(saved) - START)):
        refusal(path, wrong) if wrong != saved else None


PARTS = ["magic", "digest", "header of", "contents of", "directory"]


def damage(path, part):
    """Flip a byte of this part of a file. Returns its new bytes."""
    data = path.read_bytes()
    place = next(place for name, place in regions(data).items() if name.startswith(part))
    path.write_bytes(flipped(data, place + 3))
    return path.read_bytes()


@pytest.mark.parametrize("part", PARTS)
def test_a_run_refuses_it_in_one_line_and_leaves_it_as_it_is(part, stopped, capfd):
    """Where there is no other one."""
    (stopped / "checkpoint-previous.pt").unlink()
    damaged = damage(stopped / "checkpoint.pt", part)
    assert run_lesson(Config(), None, flags(short(output="run"))) == 1
    error = capfd.readouterr().err
    assert error.startswith("error: run/checkpoint.pt is damaged") and error.count("\n") == 1
    assert (stopped / "checkpoint.pt").read_bytes() == damaged      # it may still be worth something to somebody


@pytest.mark.parametrize("part", PARTS)
def test_the_one_before_is_used_and_the_run_ends_as_if_nothing_had_been(part, stopped, whole, capfd):
    damaged = damage(stopped / "checkpoint.pt", part)
    assert run_lesson(Config(), None, flags(short(output="run"))) == 0
    said = capfd.readouterr().err
    assert "checkpoint.pt is damaged" in said and "checkpoint-previous.pt" in said and said.count("\n") == 1
    assert killer.results(stopped) == killer.results(whole)
    assert damaged in [file.read_bytes() for file in stopped.glob("*.pt")]


def test_a_kill_between_the_two_renamings_loses_nothing(stopped, whole, capfd):
    (stopped / "checkpoint.pt").rename(stopped / "checkpoint.pt.tmp")
    assert run_lesson(Config(), None, flags(short(output="run"))) == 0
    assert "checkpoint-previous.pt" in capfd.readouterr().err
    assert killer.results(stopped) == killer.results(whole) and not list(stopped.glob("*.tmp"))


def test_where_both_are_damaged_both_are_named(stopped, capfd):
    files = {name: damage(stopped / name, "contents of") for name in ("checkpoint.pt", "checkpoint-previous.pt")}
    assert run_lesson(Config(), None, flags(short(output="run"))) == 1
    error = capfd.readouterr().err
    assert all(name in error for name in files) and error.count("\n") == 1
    assert {name: (stopped / name).read_bytes() for name in files} == files

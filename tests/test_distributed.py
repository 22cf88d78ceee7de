"""One run on two real processes that talk by gloo: same parameters to the last bit, the gradient of the joint batch."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ranks_at_work
from dreamer.tools import distributed
from dreamer.training import checkpoint
from dreamer.training.checkpoint import CheckpointError
from dreamer.training.cli import guarded
from dreamer.training.loop import Run
from toys import tiny

ROOT = Path(__file__).parent.parent
SMALL = ("--env telling:KillsRankOne-v0 --steps 60 --prefill 20 --batch-size 2 --batch-length 8 --starts 4 --imagination-horizon 2 "
         "--stoch 4 --train-ratio 4 --eval-every 30 --eval-episodes 1 --final-episodes 2 --checkpoint-every 15 --device cpu "
         "--output here").split()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two ranks have written down: see ranks_at_work.py."""
    folder = tmp_path_factory.mktemp("ranks")
    method = "spawn" if os.name == "nt" else "forkserver"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["dreamer.tools.collector_worker", "tqdm"])
    ranks = [context.Process(target=ranks_at_work.work, args=(rank, str(folder))) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(2)]


# ------------------------------------------------------------------ one update

@pytest.mark.parametrize("kind, near", [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_the_averaged_gradient_is_that_of_one_process_on_the_joint_batch(kind, near, found, tiny_size):
    """Exactly comparable, because nothing is drawn: latents and actions are the most probable ones (`Mode`), the starts of
    dreams are given, and no sequence starts cold. What is left are means over the batch, and the percentiles of the returns.
    In double precision nothing but these could make a difference, single precision rounds. near: relative to the largest."""
    starts = ranks_at_work.starts()
    begin = torch.cat([starts[0], starts[1] + ranks_at_work.BATCH * ranks_at_work.LENGTH])
    joint = ranks_at_work.gradients(ranks_at_work.subject(kind), *ranks_at_work.joint_batch(kind), begin)
    assert torch.equal(found[0][kind], found[1][kind]) and joint.dtype == kind and joint.abs().max() > 10
    assert (found[0][kind] - joint).abs().max() < near * joint.abs().max()


def test_the_comparison_would_notice_percentiles_and_gradients_that_are_not_shared(found):
    """The two halves of the batch differ: alone, each has other percentiles above the floor of 1, and another gradient."""
    one, two = (rank["scale alone"] for rank in found)
    assert min(one, two) > 1.5 and abs(one - two) > 1
    joint = found[0][torch.float64]
    assert all((rank["alone"] - joint).abs().max() > 1e-2 for rank in found)
    assert ((found[0]["alone"] + found[1]["alone"]) / 2 - joint).abs().max() > 1e-3         # gradients shared, percentiles not


# ------------------------------------------------------------------ a whole run

def test_parameters_stay_the_same_to_the_last_bit(found):
    one, two = found
    assert len(one["parameters"]) == len(two["parameters"]) == one["updates"] > 20
    for mine, theirs in zip(one["parameters"], two["parameters"]):
        assert torch.equal(mine, theirs)
    assert not torch.equal(one["parameters"][0], one["parameters"][-1])
    for key in ("average", "return range", "mean", "std"):
        assert torch.equal(one[key], two[key])
    assert one["return range"].abs().sum() > 0


def test_every_rank_has_episodes_of_its_own_and_trains_on_them(found):
    one, two = ({row.item() for row in rank["rows"]["obs_vector"][0, :rank["count"], 0]} for rank in found)
    assert len(one) > 5 and not one & two
    for rank in found:
        trained = rank["rows"]["stoch"][0, :20] < 4         # random steps have no latents before an update gives them some
        assert trained.all(-1).any()


def test_train_ratio_and_steps_are_those_of_one_process(found):
    for rank in found:
        acted = rank["rows"]["action"][0, :rank["count"]].any(-1).sum()
        assert rank["steps"] == acted == 80 and rank["began"] == found[0]["began"] >= 24
        assert rank["updates"] == 1 + int((80 - rank["began"]) * 16 / 32)


def test_observations_are_scaled_by_the_prefill_of_all_ranks(found):
    """Training began at the same step everywhere: when the last rank had enough rows."""
    seen = torch.cat([rank["seen"] for rank in found])
    assert len({len(rank["seen"]) for rank in found}) == 2          # another number of finished episodes
    torch.testing.assert_close(found[0]["mean"], seen.mean(0))
    torch.testing.assert_close(found[0]["std"], seen.std(0, correction=0))
    assert not torch.allclose(found[0]["mean"], found[0]["seen"].mean(0))


def test_parameters_that_drift_apart_are_noticed(found):
    assert all("no longer the same" in rank["drifted"] for rank in found)


@pytest.fixture
def alone(tmp_path, tiny_size, monkeypatch):
    """A run of one rank, in this process."""
    monkeypatch.chdir(tmp_path)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_one_rank_is_a_run_like_any_other(alone):
    options = dict(checkpoint_every=1000, steps=60, final_episodes=1)
    distributed.RankRun(tiny(output="one", **options)).train()
    Run(tiny(output="two", **options)).train()
    assert ranks_at_work.lines("one") == ranks_at_work.lines("two")
    assert json.loads(Path("one/summary.json").read_text())["ranks"] == 1
    Path("one/rank-1").mkdir()
    Path("one/rank-1/rows-000000000060.pt").touch()
    with pytest.raises(CheckpointError, match="one holds a run of 2 rank.s., not 1; use torchrun --nproc-per-node 2"):
        distributed.RankRun(tiny(output="one", **options)).train()


def test_no_resume_deletes_the_rows_of_ranks_that_take_no_part_any_more(alone):
    former = Path("one/rank-7/rows-000000000060.pt")
    former.parent.mkdir(parents=True)
    former.touch()
    distributed.RankRun(tiny(output="one", resume=False, steps=30, final_episodes=1)).take_up()
    assert not former.exists()


# ------------------------------------------------------------------ the command

def started(folder, rank, port, *flags):
    """A rank as torchrun starts it."""
    told = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen([sys.executable, "-m", "dreamer.tools.distributed", *SMALL, *flags], cwd=folder, text=True,
                            stderr=subprocess.PIPE, stdout=subprocess.PIPE, env={**surroundings(folder), **told})


def surroundings(folder):
    return {**os.environ, "TELLS": str(folder), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def saved_rows(folder, step):
    """The replay buffers of both ranks in the checkpoint of a step."""
    files = (folder / "here" / "checkpoint.pt", folder / "here" / "rank-1" / f"rows-{step:012}.pt")
    return [checkpoint.load(file)["replay"] for file in files]


@pytest.mark.parametrize("code, ended", [(1, [1]), (0, [])])
def test_a_failed_rank_ends_before_waiting_threads_can_end_it_by_a_signal(code, ended, monkeypatch):
    ends = []
    monkeypatch.setattr(distributed, "guarded", lambda work: code)
    monkeypatch.setattr(os, "_exit", ends.append)
    distributed.main()
    assert ends == ended


@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_a_rank_that_dies_ends_the_others_and_torchrun_goes_on_from_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").touch()
    port = free_port()
    ranks = [started(tmp_path, rank, port) for rank in range(2)]
    said = [process.communicate() for process in ranks]
    assert ranks[1].returncode == -signal.SIGKILL and ranks[0].returncode == 1, said
    assert said[0][1].startswith("error: another rank of this run has ended") and said[0][1].count("\n") == 1
    before = saved_rows(tmp_path, 30)
    assert checkpoint.load("here/checkpoint.pt")["saved_at"] == 30

    (tmp_path / "broken").unlink()
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
                           "dreamer.tools.distributed", *SMALL], cwd=tmp_path, env=surroundings(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads(Path("here/summary.json").read_text())
    assert summary["steps"] == 60 and summary["ranks"] == 2 and [e["step"] for e in summary["evaluations"]] == [30, 60]
    assert done.stdout.count("files: here/summary.json") == 1
    for old, new in zip(before, saved_rows(tmp_path, 60)):
        count = int(old["count"])
        for key in ("obs_vector", "action", "reward", "is_first", "is_terminal"):
            assert torch.equal(old["rows"][key][0, :count], new["rows"][key][0, :count])
        assert new["rows"]["is_last"][0, count - 1] and not new["rows"]["is_terminal"][0, count - 1]
        assert int(new["rows"]["action"][0, :int(new["count"])].any(-1).sum()) == 60
    assert sorted(file.name for file in Path("here/rank-1").glob("rows*")) == ["rows-000000000045.pt", "rows-000000000060.pt"]


def test_without_torchrun_one_line_says_how_to_start(capsys, monkeypatch):
    for name in distributed.NEEDED:
        monkeypatch.delenv(name, raising=False)
    assert guarded(distributed.work, ["--env", "CartPole-v1"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "torchrun --nproc-per-node 2 -m dreamer.tools.distributed" in err

"""Runs on Ray: lost workers come back and change nothing, Ctrl-C ends all, and what is missing is said."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import killer
import train_all
from dreamer.tools import live, ray_runs
from dreamer.training import experiments
from dreamer.training.loop import Run

ROOT = Path(train_all.__file__).resolve().parent
needs_ray = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
# A real lesson of a toy. One seed waits at a checkpoint in mid-run, until its process is killed.
LESSON = f'''
import os, sys, time
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
import toys
from dreamer.training import paths
from dreamer.training.bar import Bar
from dreamer.training.cli import run_lesson
from dreamer.training.loop import Run

paths.ROOT = Path(__file__).parent      # the course of this test, in the worker as well
toys.use_tiny_size()
DEFAULTS, BAR = toys.tiny(), Bar(final=0)


def save_and_wait(run, save=Run.save):
    save(run)
    print("saved", run.step)
    waits = run.folder / "waits"
    if run.config.seed == WAITING and run.step >= 40 and not waits.exists():
        waits.write_text(str(os.getpid()))
        time.sleep(900)


if __name__ == "__main__":
    if BROKEN in sys.argv[2:3]:         # --seed BROKEN
        sys.exit("error: the toy broke")
    Run.save = save_and_wait
    sys.exit(run_lesson(DEFAULTS, BAR))
'''


@pytest.fixture(autouse=True)
def course(tmp_path, tiny_size, monkeypatch):
    """Two seeds of one lesson, in folders of the test; Ray's files lie in a folder with a short name."""
    write_lesson(tmp_path)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(experiments, "SCRIPTS", tmp_path)
    monkeypatch.setattr(experiments, "SEEDS", {"02_toy": 2})
    monkeypatch.setattr(train_all, "ROOT", tmp_path)
    short = tempfile.mkdtemp(prefix="ray-")             # a socket's path has a hundred characters at most
    monkeypatch.setenv("RAY_TMPDIR", short)
    yield tmp_path
    gone(processes_of_ray())
    shutil.rmtree(short, ignore_errors=True)


def write_lesson(folder, waiting=0, broken=None):
    (folder / "02_toy.py").write_text(LESSON.replace("WAITING", str(waiting)).replace("BROKEN", repr(broken)))


def run_folder(course, seed):
    return course / "runs" / f"toys-ToyCounter-v0-{seed}"


def workers(course, seed):
    """Processes that a run has been in, as its log tells."""
    lines = (run_folder(course, seed) / "log.txt").read_text().splitlines()
    return [int(line.split("process ")[1]) for line in lines if line.startswith("on ")]


def saved(course, seed):
    """Steps of the checkpoints of a run, as its log tells."""
    lines = (run_folder(course, seed) / "log.txt").read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("saved")]


def waits(course, seed, seconds=600):
    """The process that waits at a checkpoint of a run."""
    path = run_folder(course, seed) / "waits"
    for _ in range(seconds * 10):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.1)
    raise TimeoutError(f"{path} does not come")


def gone(pids, seconds=300):
    """Do all these processes end?"""
    for _ in range(seconds * 10):
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def processes_of_ray():
    """Process ids of every part of a Ray whose files lie in the test's folder."""
    listing = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in listing.splitlines() if os.environ["RAY_TMPDIR"] in line]


# ------------------------------------------------------------------ a real Ray

@needs_ray
def test_a_killed_worker_comes_back_and_the_run_ends_with_the_same_numbers(course, capsys):
    pytest.importorskip("ray")
    seen = {}

    def kill():
        seen["pid"], seen["ray"] = waits(course, 0), processes_of_ray()
        seen["step"] = json.loads((run_folder(course, 0) / "metrics.jsonl").read_text().splitlines()[-1])["step"]
        os.kill(seen["pid"], signal.SIGKILL)
    thread = threading.Thread(target=kill)
    thread.start()
    assert train_all.main(["--ray", "--jobs", "2"]) == 0
    thread.join()
    first, second = workers(course, 0)
    assert first == seen["pid"] != second and len(workers(course, 1)) == 1
    assert 0 < seen["step"] < 80
    assert saved(course, 0) == sorted(set(saved(course, 0)))        # from the checkpoint on, not from the beginning
    said = capsys.readouterr().out
    assert all(f"{state}\n" in said for state in ("running", "done")) and "2 done" in said
    for job in experiments.plan(["02_toy"], course / "runs")[0]:
        alone = Run(replace(job.config, output=str(course / f"alone-{job.seed}")))
        alone.train()
        assert killer.results(job.folder) == killer.results(alone.folder)
    stored = json.loads((course / "assets" / "results.json").read_text())
    assert [entry["seed"] for entry in stored["02_toy"]] == [0, 1]
    assert seen["ray"] and gone([*seen["ray"], first, second, *workers(course, 1)]) and not processes_of_ray()


@pytest.fixture
def cluster(course, monkeypatch):
    """A Ray of two CPUs that runs already, and is ended with the test."""
    pytest.importorskip("ray")
    code = ("from dreamer.tools import ray_runs; ray = ray_runs.begin('local', 2, 1); "
            "print(ray.get_runtime_context().gcs_address, flush=True); input()")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    monkeypatch.setenv("RAY_ADDRESS", process.stdout.readline().strip())
    yield process
    process.communicate("\n", timeout=300)


@needs_ray
def test_ctrl_c_ends_the_runs_and_leaves_the_cluster(course, cluster, capsys, monkeypatch):
    """And before that: what no node has is refused, and a run that fails is named."""
    with pytest.raises(SystemExit, match="^error: no node of this Ray has 3 CPUs and 0 GPUs, [^\n]*$"):
        train_all.main(["--ray", "auto", "--cpus", "3"])
    write_lesson(course, waiting=1, broken="0")
    jobs = []

    def impatient(self, last=False):
        jobs[:] = self.jobs
        if not last and (run_folder(course, 1) / "waits").exists() and self.jobs[0].state == "failed":
            raise KeyboardInterrupt
    monkeypatch.setattr(live.Lines, "__call__", impatient)
    assert train_all.main(["--ray", "auto"]) == 130
    assert [job.state for job in jobs] == ["failed", "stopped"]
    assert jobs[0].note == "error: the toy broke (exit code 1)"
    assert "train_all.py --ray auto\n" in capsys.readouterr().err
    assert gone(workers(course, 1)) and cluster.poll() is None and processes_of_ray()


@needs_ray
def test_without_a_cluster_one_sentence(course, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SystemExit, match="^error: this machine belongs to no running Ray cluster; [^\n]*$"):
        train_all.main(["--ray", "auto"])


# ------------------------------------------------------------------ without one

def test_without_the_package_one_sentence_says_what_brings_it(course, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit, match='^error: Ray is not installed; pip install "ray>=[0-9.]+" brings it$'):
        train_all.main(["--ray"])
    tested = ray_runs.MISSING.split('"')[1].replace(">=", "==")
    assert f"\n{tested};" in (ROOT / "requirements-extras.txt").read_text()


def test_nothing_to_run_needs_no_ray(course, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    jobs, _ = experiments.plan(["02_toy"], course / "runs")
    for job in jobs:
        job.state = "done"
    train_all.run(train_all.read_options(["--ray"]), jobs)


def test_room_is_counted_node_by_node():
    nodes = [{"Alive": True, "Resources": {"CPU": 3.0, "GPU": 1.0}}, {"Alive": True, "Resources": {"CPU": 3.0}},
             {"Alive": False, "Resources": {"CPU": 64.0}}]
    assert ray_runs.space(nodes, 1, 0) == 6
    assert ray_runs.space(nodes, 2, 0) == 2             # not 3: no run lies on two nodes
    assert ray_runs.space(nodes, 1, 0.5) == 2
    assert ray_runs.space(nodes, 1, 2) == 0


@pytest.mark.parametrize("argv, ray, lessons", [
    (["--ray"], "local", []), (["--ray", "02"], "local", ["02"]), (["02", "--ray"], "local", ["02"]),
    (["--ray", "auto", "02"], "auto", ["02"]), (["--ray=auto"], "auto", []), (["--ray", "--jobs", "2"], "local", []),
    (["02"], None, ["02"])])
def test_a_lesson_after_the_flag_is_a_lesson(argv, ray, lessons):
    options = train_all.read_options(argv)
    assert (options.ray, options.lessons) == (ray, lessons)


@pytest.mark.parametrize("flags, sentence", [
    (["--ray", "--cpus", "0"], "--cpus must be above 0, not 0"),
    (["--ray", "--gpus", "1.5"], "--gpus must be 0 to 1, or a whole number, not 1.5"),
    (["--ray", "--gpus", "-1"], "--gpus must be 0 to 1, or a whole number, not -1"),
    (["--gpus", "1"], "--cpus and --gpus say what a run gets from Ray; give --ray, too"),
    (["--ray", "atuo"], "there is no experiment atuo; there are 02_toy")])
def test_bad_flags_are_one_sentence(flags, sentence):
    with pytest.raises(SystemExit, match=f"^error: {sentence}$"):
        train_all.main(flags)

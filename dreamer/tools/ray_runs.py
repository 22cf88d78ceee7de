"""Many runs on Ray: each is a task in a worker process of its own, on this machine or on a cluster.

The run happens in the worker itself, not in a child of it: whatever kills the worker kills the run, and no
second process ever writes into its folder. Ray then starts the task again, somewhere; the script finds its
checkpoint in the folder, which all nodes must see under the same path, and goes on from there.
"""

import contextlib
import math
import os
import platform
import runpy
import signal
import sys
import threading
import traceback
from pathlib import Path

from ..training import experiments

RETRIES = 3                             # times that a run is taken up again after its worker was lost
OBJECTS = 80 * 2 ** 20                  # bytes of Ray's object store, about the least it accepts: runs share files only
SETTINGS = {                            # of Ray, where the environment does not say otherwise
    "RAY_USAGE_STATS_ENABLED": "0",                     # no report to Ray's makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",          # see `work`
    "RAY_prestart_worker_first_driver": "0",            # a worker begins when there is a run for it,
    "RAY_worker_register_timeout_seconds": "600"}       # and may take its time on a busy machine
MISSING = 'Ray is not installed; pip install "ray>=2.52.1" brings it'
NO_CLUSTER = "this machine belongs to no running Ray cluster; ray start --head starts one, and --ray alone needs none"


class ClusterError(Exception):
    """Ray cannot be used; the message says why."""


@contextlib.contextmanager
def connected(where, jobs, cpus, gpus):
    """Yield (launch, runs side by side), see experiments.run_all. Raises ClusterError.

    where: "auto" joins the cluster that is running, "local" starts a Ray on this machine with room for `jobs` runs
    and ends it afterwards. jobs: runs side by side; None (with "auto"): as many as the cluster has room for.
    cpus, gpus: what each run gets; fractions of one share it.
    """
    ray = begin(where, jobs, cpus)
    try:
        room = space(ray.nodes(), cpus, gpus)
        if not room and (jobs is None or where == "local"):
            raise ClusterError(f"no node of this Ray has {cpus:g} CPUs and {gpus:g} GPUs, as --cpus and --gpus want")
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, max_calls=1)(work)
        yield (lambda job: Task(ray, task.remote(job.script(), str(job.folder), gpus), job.folder),
               jobs or room)
    finally:
        ray.shutdown()                  # a local Ray ends, and all its processes; a cluster goes on


def begin(where, jobs, cpus):
    """Start or join a Ray. Returns the package. Raises ClusterError."""
    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    try:
        import ray
    except ImportError:
        raise ClusterError(MISSING) from None
    options = {"address": "auto"}
    if where == "local":
        options = {"address": "local", "num_cpus": math.ceil(jobs * cpus), "object_store_memory": OBJECTS,
                   "include_dashboard": False}
    try:
        with unchanged(signal.SIGTERM):
            ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except BaseException as error:
        ray.shutdown()                  # whatever of it has begun
        if isinstance(error, ConnectionError):
            raise ClusterError(NO_CLUSTER) from None
        if isinstance(error, Exception):        # Ray raises what comes: another version, no memory, no port, too slow
            raise ClusterError(f"Ray does not start: {first_line(error)}") from None
        raise
    return ray


@contextlib.contextmanager
def unchanged(number):
    """Ray puts its own handler of a signal in the place of ours: put ours back."""
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)


def space(nodes, cpus, gpus):
    """How many runs the nodes of a cluster (ray.nodes()) have room for; a run lies on one node."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    return sum(int(min(have.get("CPU", 0) / cpus, have.get("GPU", 0) / gpus if gpus else math.inf)) for have in alive)


def first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Task:
    """A run on Ray, with what experiments.py uses of a subprocess.Popen."""

    def __init__(self, ray, answer, folder):
        self.ray, self.answer, self.folder, self.returncode = ray, answer, folder, None

    def poll(self):
        if self.returncode is None and self.ray.wait([self.answer], timeout=0)[0]:
            try:
                self.returncode = self.ray.get(self.answer)
            except self.ray.exceptions.RayError as error:
                self.returncode = 1
                with open(self.folder / "log.txt", "a", encoding="utf-8") as log:
                    log.write(f"{explain(self.ray, error)}\n")
        return self.returncode

    def terminate(self):
        self.ray.cancel(self.answer, force=True)

    kill = terminate

    def wait(self, timeout=None):
        self.ray.wait([self.answer], timeout=timeout)


def explain(ray, error):
    """One sentence for a task without an answer."""
    if isinstance(error, (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError)):
        return f"error: its Ray worker was lost {RETRIES + 1} times"
    cause = getattr(error, "cause", None) or error
    return f"error: Ray could not run it: {type(cause).__name__}: {first_line(cause)}"


# ------------------------------------------------------------------ in the worker

def work(script, folder, gpus):
    """Run a lesson's script, a list of its path and flags, to its end. Returns its exit code.

    What it prints goes to log.txt in `folder`.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{platform.node()} does not see {folder}; all nodes must share it")
    os.environ["DREAMER_QUIET"] = "1"
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""         # Ray hides other runs' GPUs only from those that ask for one
    os.chdir(experiments.HERE)
    sys.argv = script
    with open(Path(folder) / "log.txt", "a", buffering=1, encoding="utf-8") as log, \
            contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        print(f"on {platform.node()}, process {os.getpid()}")
        try:
            runpy.run_path(script[0], run_name="__main__")
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code)
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
            return 1
    return 0

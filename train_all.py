"""Run every experiment of the README, collect them in assets/results.json, draw the pictures.

    python train_all.py             # runs what is missing, then collects and draws (about an hour)
    python train_all.py --plots     # table and pictures again, from the stored results

Finished runs are skipped, killed ones resume. Each run is one process with one thread.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dreamer.training import results

ROOT = Path(__file__).resolve().parent
EXPERIMENTS = {"02_dreamer_cartpole.py": range(5), "03_dreamer_pendulum.py": range(3)}     # lesson: seeds


def command(script, seed, folder):
    return [sys.executable, script, "--seed", str(seed), "--threads", "1", "--output", str(folder)]


def run(script, seed, runs):
    """One training run in a process of its own. Returns (name, exit code)."""
    folder = runs / f"{Path(script).stem}-{seed}"
    if (folder / "summary.json").exists():
        return folder.name, 0
    folder.mkdir(parents=True, exist_ok=True)
    quiet = {**os.environ, "DREAMER_QUIET": "1"}
    with open(folder / "log.txt", "a") as log:
        code = subprocess.run(command(script, seed, folder), cwd=ROOT, env=quiet, stdout=log, stderr=log).returncode
    outcome = f"failed, see {folder}/log.txt" if code else "done"
    print(f"{time.strftime('%H:%M:%S')}  {folder.name}: {outcome}")
    return folder.name, code


def collect(runs):
    """Read every finished run's summary.json into the form of assets/results.json."""
    collected = {}
    for script, seeds in EXPERIMENTS.items():
        for seed in seeds:
            path = runs / f"{Path(script).stem}-{seed}" / "summary.json"
            if path.exists():
                entry = results.entry(json.loads(path.read_text()), f"python {script} --seed {seed} --threads 1")
                collected.setdefault(Path(script).stem, []).append(entry)
    return collected


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plots", action="store_true", help="only redraw, from assets/results.json")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the training runs")
    parser.add_argument("--jobs", type=int, default=max(1, os.cpu_count() or 1), help="runs side by side")
    options = parser.parse_args(argv)
    failed = []
    if not options.plots:
        jobs = [(script, seed) for script, seeds in EXPERIMENTS.items() for seed in seeds]
        with ThreadPoolExecutor(options.jobs) as pool:
            outcomes = list(pool.map(lambda job: run(*job, options.runs), jobs))
        failed = [name for name, code in outcomes if code]
        results.write(ROOT / "assets" / "results.json", collect(options.runs))
    results.publish(ROOT)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

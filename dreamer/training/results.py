"""assets/results.json and what is made of it: the README's table and the learning curves."""

import json
import os
import platform
from pathlib import Path

import numpy as np

BEGIN, END = "<!-- results: written by train_all.py -->", "<!-- end of results -->"
TITLES = {"02_dreamer_cartpole": ("CartPole-v1", 475), "03_dreamer_pendulum": ("Pendulum-v1", -200)}   # task, bar


def processor():
    """Name of the processor, as well as Python can tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def entry(summary, command):
    """What is kept of one finished run (its summary.json)."""
    config = {name: value for name, value in summary["config"].items() if name != "output"}    # a path of this machine
    means = {mode: [[e["step"], float(np.mean(e[mode]))] for e in summary["evaluations"]] for mode in ("greedy", "sampled")}
    return {"seed": summary["seed"], "task": summary["task"], "size": summary["size"], "steps": summary["steps"],
            "updates": summary["updates"], "seconds": round(summary["seconds"]), "curve": means,
            "final": summary["final"], "config": config, "versions": summary["versions"],
            "processor": processor(), "cores": os.cpu_count(), "command": command}


def write(path, collected):
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(collected, indent=1) + "\n")
    temporary.replace(path)


def read(root):
    path = Path(root) / "assets" / "results.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise SystemExit(f"there is no {path}; run `python train_all.py` first.") from None
    except json.JSONDecodeError as error:
        raise SystemExit(f"{path} is damaged ({error}); restore it from git, it is not overwritten.") from None


def held(curve, steps):
    """Mean of the last evaluations, from five eighths of the run on: 5k to 8k of 8k steps."""
    return float(np.mean([score for step, score in curve if step >= steps * 5 / 8]))


def table(results):
    """The README's results, one row for each seed."""
    lines = ["| task | seed | steps | final greedy, mean (worst) | final sampled | mean of evaluations "
             "in the last 3/8 | minutes, 1 thread |", "|---|---|---|---|---|---|---|"]
    for lesson, entries in results.items():
        for e in entries:
            greedy, sampled = e["final"]["greedy"], e["final"]["sampled"]
            lines.append(f"| {TITLES[lesson][0]} | {e['seed']} | {e['steps']:,} | {np.mean(greedy):.1f} ({min(greedy):.0f}) "
                         f"| {np.mean(sampled):.1f} | {held(e['curve']['greedy'], e['steps']):.1f} "
                         f"| {e['seconds'] / 60:.1f} |")
    return "\n".join(lines)


def plot(results, path):
    """Learning curves: every seed of every task, greedy evaluations of the averaged agent."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(1, len(results), figsize=(5 * len(results), 3.6), squeeze=False)
    for axis, (lesson, entries) in zip(axes[0], results.items()):
        name, bar = TITLES[lesson]
        for e in entries:
            steps, scores = zip(*e["curve"]["greedy"])
            axis.plot(steps, scores, marker="o", markersize=3, linewidth=1.2, label=f"seed {e['seed']}")
        axis.axhline(bar, color="black", linewidth=0.8, linestyle=":", label=f"bar {bar}")
        axis.set(title=name, xlabel="environment steps", ylabel="return, mean of 20 greedy episodes")
        axis.legend(fontsize=8, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def publish(root):
    """Write table and picture from assets/results.json into README.md and assets/."""
    root, stored = Path(root), read(root)
    plot(stored, root / "assets" / "learning_curves.png")
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{table(stored)}\n{END}{rest.split(END)[1]}", encoding="utf-8")

"""Early stopping, by the evaluations of a run and nothing else: resuming changes nothing."""

import math

from ..training.bar import mean


class Stopper:
    """A watcher that ends training, see `reason`."""

    def __init__(self, patience, window, at=math.inf):
        self.patience, self.window, self.at = patience, window, at

    def __call__(self, run, event, values):
        if event == "start":
            self.say_if_too_short(run)
        if event not in ("start", "evaluate") or run.enough:
            return
        run.enough = self.reason(run.evaluations)
        if run.enough:
            run.records.say(f"{run.folder.name} stops at step {run.step}: {run.enough}")

    def reason(self, evaluations):
        """Why the run with these evaluations should end here, or "".

        Scores are means of the greedy returns of the last `window` evaluations. Patience counts evaluations
        since the first that reached the best score: more of the same is no improvement.
        """
        means = [mean(e["greedy"]) for e in evaluations]
        scores = [mean(means[i - self.window:i]) for i in range(self.window, len(means) + 1)]
        if not scores:
            return ""
        what = f"the mean of the last {self.window} greedy evaluations" if self.window > 1 else "the greedy evaluation"
        if scores[-1] >= self.at:
            return f"{what} is {scores[-1]:.2f}, wanted {self.at:g}"
        best = scores.index(max(scores))
        if self.patience and len(scores) - 1 - best >= self.patience:
            step = evaluations[best + self.window - 1]["step"]
            return (f"{what} is {scores[-1]:.2f} and has not risen above {scores[best]:.2f} of step {step} "
                    f"for {self.patience} evaluation{'s' * (self.patience != 1)}")
        return ""

    def say_if_too_short(self, run):
        needed, there = self.window + self.patience, run.config.steps // run.config.eval_every
        if there < needed:
            run.records.say(f"note: early stopping needs {needed} evaluations, a run of {run.config.steps} steps has "
                            f"{there}; a smaller --eval-every makes more")

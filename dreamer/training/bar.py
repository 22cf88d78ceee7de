"""What counts as solved, and the numbers that are judged."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bar:
    """What counts as solved. `final`: least mean return of the fresh greedy episodes at the end;
    `window`: least mean of the greedy evaluations at the steps `at`, all of them together. `success`, in place of both:
    least share of the fresh episodes at the end, greedy and sampled alike, whose return is above 0."""
    final: float | None = None
    window: float | None = None
    at: tuple = ()
    success: float | None = None

    @property
    def least(self):
        """The least score that counts as solved, see `score`."""
        return self.final if self.success is None else self.success

    def score(self, returns):
        """What is judged of the returns of some episodes: their mean, or the share above 0."""
        return mean(returns) if self.success is None else share_above_0(returns)

    def weakest(self, final):
        """The score that the end of a run is judged by: of greedy episodes; of success the weaker of both ways to act."""
        return min(self.score(final[mode]) for mode in (["greedy"] if self.success is None else ["greedy", "sampled"]))

    def check(self, summary):
        """summary of a run -> list of (sentence, met?); met is None if there is nothing to judge."""
        if self.success is not None:
            shares = {mode: share_above_0(summary["final"][mode]) for mode in ("greedy", "sampled")}
            return [(f"success in {share:.1%} of {len(summary['final'][mode])} fresh {mode} episodes, "
                     f"wanted {self.success:.0%}", share >= self.success) for mode, share in shares.items()]
        score = mean(summary["final"]["greedy"])
        checks = [(f"mean of {len(summary['final']['greedy'])} fresh greedy episodes {score:.1f}, "
                   f"wanted {self.final:g}", score >= self.final)]
        if self.window is None:
            return checks
        envs, found = summary["config"]["envs"], []
        for step in self.at:        # several environments may reach an evaluation a few steps late
            found += [mean(e["greedy"]) for e in summary["evaluations"] if step <= e["step"] < step + envs]
        at = ", ".join(map(str, self.at))
        if len(found) < len(self.at):
            return [*checks, (f"this run has no evaluations at steps {at}", None)]
        return [*checks, (f"mean of the greedy evaluations at steps {at} {mean(found):.1f}, "
                          f"wanted {self.window:g}", mean(found) >= self.window)]


def mean(values):
    return float(np.mean(values))


def share_above_0(returns):
    """What tasks with one reward at the end count as success."""
    return mean(np.asarray(returns) > 0)

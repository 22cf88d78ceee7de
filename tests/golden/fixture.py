"""One recorded fixture: its arrays, and the rules by which a result is compared with them."""

import numpy as np
import torch

INFORMATIONAL = {"out_mean_compiled_cpu"}       # recorded to be looked at, not to be reproduced
GRADIENT_TOLERANCE = 1e-4
MEAN_TOLERANCE = 1e-6


class Fixture:
    """The arrays of one .npz file. Remembers which `out_` arrays have been compared, and how well."""

    def __init__(self, path, tolerance):
        with np.load(path, allow_pickle=False) as file:
            self.arrays = {name: file[name] for name in file.files}
        self.tolerance = tolerance
        self.missing = {name for name in self.arrays if name.startswith("out_")} - INFORMATIONAL
        self.worst = {}         # rule -> (error / tolerance, error, tolerance, array)

    # -------------------------------------------------------------- reading

    def __contains__(self, name):
        return name in self.arrays

    def __getitem__(self, name):
        """The array as a tensor: floats as float32, class numbers as int64, bool and uint8 as they are."""
        tensor = torch.from_numpy(np.array(self.arrays[name]))
        if tensor.is_floating_point():
            return tensor.float()
        return tensor if tensor.dtype in (torch.bool, torch.uint8) else tensor.long()

    def shape(self, name):
        return self.arrays[name].shape

    def number(self, name, default=None):
        """A scalar as the decimal it was written as: float32 0.999 is 0.999, not 0.99900001287."""
        if name not in self:
            return default
        array = self.arrays[name]
        return array.item() if array.dtype.kind in "iub" else float(str(array))

    def layers(self, name):
        """How many layers `name0`, `name1`, ... the fixture holds parameters of."""
        count = 0
        while f"param_{name}{count}_kernel" in self:
            count += 1
        return count

    # -------------------------------------------------------------- comparing

    def compare(self, name, ours, terms=None):
        """|a - b| / (1 + |b|) for every number. `terms` (same shape) may stand in for |b| where
        b is a sum: the size of what was added, since that is what rounding errors grow with."""
        gap, recorded = self.gap(name, ours)
        size = np.abs(recorded) if terms is None else np.maximum(np.abs(recorded), plain(terms))
        self.judge("scaled", name, ratio(gap, 1 + size), self.tolerance)

    def compare_mean(self, name, ours, logits, bins):
        """The mean of a two-hot: its absolute error may be 1e-6 sum_k p_k |bin_k|, plus 1e-5 |b|."""
        gap, recorded = self.gap(name, ours)
        spread = plain((logits.double().softmax(-1) * bins.double().abs()).sum(-1))
        self.judge("mean", name, ratio(gap, spread + 10 * np.abs(recorded)), MEAN_TOLERANCE)

    def compare_gradient(self, name, ours):
        """max |a - b| <= 1e-4 max |b| + 1e-6, over a whole tensor."""
        gap, recorded = self.gap(name, ours)
        size = np.abs(recorded).max(initial=0) + 0.01
        self.judge("gradient", name, ratio(gap, size), GRADIENT_TOLERANCE)

    def compare_zero(self, name, ours):
        """Exactly 0, without any tolerance. Does not count as a comparison with the recording."""
        self.judge("zero", name, np.abs(plain(ours)), 0.0)

    def gap(self, name, ours):
        """|a - b|, 0 where both are the same infinity or undefined; and b."""
        ours, recorded = plain(ours), plain(self.arrays[name])
        if ours.shape != recorded.shape:
            raise ValueError(f"{name} has shape {recorded.shape}, ours {ours.shape}")
        self.missing.discard(name)
        same = (ours == recorded) | (np.isnan(ours) & np.isnan(recorded))
        with np.errstate(invalid="ignore"):
            return np.where(same, 0, np.abs(ours - recorded)), recorded

    def judge(self, rule, name, errors, tolerance):
        """Keep the worst number of each rule."""
        error = float(np.max(errors, initial=0))
        share = error / tolerance if tolerance else error and np.inf
        if rule not in self.worst or share > self.worst[rule][0]:
            self.worst[rule] = share, error, tolerance, name

    # -------------------------------------------------------------- the verdict

    @property
    def ok(self):
        compared = any(rule != "zero" for rule in self.worst)
        return compared and not self.missing and all(share <= 1 for share, *_ in self.worst.values())

    def verdict(self):
        """The largest error of each rule, with its tolerance, and what was left out."""
        parts = [f"{rule} {error:.1e} of {tolerance:.1e} ({name})"
                 for rule, (_, error, tolerance, name) in self.worst.items() if rule != "zero" or error]
        if self.missing:
            parts.append(f"not compared: {', '.join(sorted(self.missing))}")
        return "; ".join(parts) or "nothing to compare"


def plain(x):
    """A tensor or array as a float64 array."""
    return np.asarray(x.detach() if torch.is_tensor(x) else x, dtype=np.float64)


def ratio(gap, size):
    """gap / size, where an undefined number counts as infinitely wrong."""
    with np.errstate(invalid="ignore"):
        share = np.where(gap == 0, 0, gap / size)
    return np.where(np.isnan(share), np.inf, share)

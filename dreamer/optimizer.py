"""Step 10: LaProp with adaptive gradient clipping, one optimiser for all parameters (Table 4; beta2 as in the official code).

LaProp normalises the gradient by its own scale *before* momentum averages it; Adam does it after.
A single outsized gradient is thus divided by the scale that it has raised itself, before momentum keeps it.
"""

import torch


class LaProp:
    """Source: `opt.py` of the official code; Ziyin et al. 2020 (LaProp), Brock et al. 2021 (AGC)."""

    def __init__(self, parameters, lr, warmup, agc=0.3, agc_floor=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-20):
        self.parameters = list(parameters)
        self.lr, self.warmup, self.agc, self.agc_floor = lr, warmup, agc, agc_floor
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.step_count = 0
        self.nu = [torch.zeros_like(p) for p in self.parameters]      # mean square of the gradient
        self.mu = [torch.zeros_like(p) for p in self.parameters]      # mean normalised gradient

    @torch.no_grad()
    def step(self, left=1.0):
        """Apply .grad of every parameter and clear it. Returns the global gradient norm, ().

        left: share of the learning rate that is left at this point of the run (ours; the paper: always 1).
        """
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        norms = torch._foreach_norm(grads)
        self.clip(grads, norms)
        self.step_count += 1
        # nu <- b2 nu + (1 - b2) g^2;  u = g / (sqrt(nu / (1 - b2^t)) + eps)
        torch._foreach_mul_(self.nu, self.beta2)
        torch._foreach_addcmul_(self.nu, grads, grads, 1 - self.beta2)
        scale = torch._foreach_div(self.nu, 1 - self.beta2 ** self.step_count)
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, self.epsilon)
        torch._foreach_div_(grads, scale)
        # mu <- b1 mu + (1 - b1) u;  p <- p - lr_t mu / (1 - b1^t), lr_1 = 0 while warming up
        torch._foreach_lerp_(self.mu, grads, 1 - self.beta1)
        lr = left * self.lr * (min(1.0, (self.step_count - 1) / self.warmup) if self.warmup else 1.0)
        torch._foreach_add_(self.parameters, self.mu, alpha=-lr / (1 - self.beta1 ** self.step_count))
        for parameter in self.parameters:
            parameter.grad = None
        return torch.stack(norms).norm()

    def clip(self, grads, norms):
        """AGC, in place: g / max(1, |g| / (agc max(floor, |p|))) for each tensor, biases included."""
        limits = torch._foreach_norm(self.parameters)
        torch._foreach_clamp_min_(limits, self.agc_floor)
        torch._foreach_mul_(limits, self.agc)
        ratios = torch._foreach_div(norms, limits)
        torch._foreach_clamp_min_(ratios, 1.0)
        torch._foreach_div_(grads, ratios)

    def state_dict(self):
        return {"step_count": self.step_count, "nu": self.nu, "mu": self.mu}

    def load_state_dict(self, state):
        self.step_count = state["step_count"]
        for mine, theirs in [*zip(self.nu, state["nu"]), *zip(self.mu, state["mu"])]:
            mine.copy_(theirs)


@torch.no_grad()
def follow(average, module, rate):
    """average <- (1 - rate) average + rate module, for every parameter (slow critic, averaged agent)."""
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), rate)

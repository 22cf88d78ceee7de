"""Every hyperparameter that a flag can set, once: name, value, and what it is called in the paper where that is another name.

What nothing in the course changes stands as a default where it is used: the betas and epsilon of LaProp (optimizer.py), percentiles
(behavior/returns.py), bounds of the actor's std (distributions.py), numbers of layers and initial scales.

The defaults are the course's recipe: one set for every lesson, chosen to learn within minutes on
two CPU cores. `--recipe official` puts the paper's values in place of the few that differ.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Size(NamedTuple):
    """A model size by the official names."""
    deter: int      # D, units of the recurrent state
    hidden: int     # U, units of every hidden layer
    classes: int    # C, classes of each latent
    depth: int      # channels of the image networks, in multiples of 2, 3, 4, 4


SIZES = {
    "1m": Size(512, 64, 4, 4),
    "12m": Size(2048, 256, 16, 16),
    "25m": Size(3072, 384, 24, 24),
    "50m": Size(4096, 512, 32, 32),
    "100m": Size(6144, 768, 48, 48),
    "200m": Size(8192, 1024, 64, 64),
    "400m": Size(12288, 1536, 96, 96),
}


@dataclass(frozen=True)
class Config:
    """DreamerV3. Every flag is a hyperparameter or says what to run."""

    # ---- the task and the budget: what a lesson may choose
    env: str = "CartPole-v1"
    """id of any registered Gymnasium environment"""
    steps: int = 8000
    """environment steps to train for, resets not counted"""
    size: Literal["1m", "12m", "25m", "50m", "100m", "200m", "400m"] = "1m"
    """model size, by the official names"""
    envs: int = 1
    """environments that run side by side, 1 to 16"""
    train_ratio: float = 128.0
    """replayed steps per environment step; updates per step = ratio / (B*T) (paper: 512 for small tasks; official presets: 32 to 1024)"""

    # ---- the run
    seed: int = 0
    """seed of everything random: weights, draws, replay, environments"""
    output: str = ""
    """folder for metrics, checkpoints, summary.json and pictures; runs/TASK-seed, and assets for pictures, if empty"""
    resume: bool = True
    """go on from the checkpoint in the output folder, if there is one"""
    recipe: Literal["course", "official"] = "course"
    """which set of defaults the flags start from"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes CUDA when there is one, else the CPU; mps (Mac) only by choice"""
    threads: int = 1
    """CPU threads of torch; 0 leaves torch's own choice (at size 1m a second one seldom helps, but with pictures on an idle machine)"""
    compile: bool = False
    """let torch.compile join the operations of an update: 1.4 times as fast after two minutes (CPU), some twice after one (GPU), for long runs (training/compiled.py)"""
    async_envs: bool = False
    """run each environment in a process of its own"""
    env_timeout: float = 300.0
    """seconds after which --async-envs gives up a reset or step without an answer; 0 waits for ever"""
    collector: Literal["inline", "process"] = "inline"
    """process: act in a process beside training, for slow environments (docs/scaling.md)"""
    log_every: int = 250
    """environment steps between two lines of metrics.jsonl"""
    eval_every: int = 1000
    """environment steps between two evaluations"""
    eval_episodes: int = 20
    """episodes per evaluation, both greedy and sampled"""
    final_episodes: int = 100
    """fresh episodes after training, both greedy and sampled"""
    checkpoint_every: int = 1000
    """environment steps between two checkpoints"""

    # ---- data (replay buffer, Table 4 of the paper)
    batch_size: int = 16
    """B, sequences per update"""
    batch_length: int = 16
    """T, trained steps per sequence (paper: 64)"""
    cold_starts: float = 0.5
    """share of sequences that start from the zero state instead of the stored latents (paper: 0)"""
    starts: int = 128
    """N, imagination starts per update, drawn from the B*T replayed states; 0 takes all (paper)"""
    prefill: int = 1000
    """random steps before training (paper: 0); also fixes the scale of the observations"""
    hold: float = 4.0
    """mean number of steps for which a random prefill action is held (geometric)"""
    late_hold: int = 30
    """steps for which the agent keeps each of its actions from step 500 of an episode on (paper: 0, never)"""
    capacity: int = 200_000
    """rows of the replay buffer (paper: 5e6)"""
    standardize: bool = True
    """bring vector observations to order one with the statistics of the prefill (paper: no)"""

    # ---- world model
    stoch: int = 32
    """S, categorical latents"""
    blocks: int = 8
    """g, blocks of the block-diagonal GRU"""
    bins: int = 255
    """K, two-hot bins of reward and critic"""
    unimix: float = 0.01
    """share of the uniform distribution in every categorical"""
    free_nats: float = 1.0
    """KL below which dyn and rep losses stop pushing"""
    beta_rec: float = 10.0
    """scale of the reconstruction loss (paper: 1)"""
    beta_dyn: float = 10.0
    """scale of the dynamics loss (paper: 1)"""
    beta_rep: float = 1.0
    """scale of the representation loss (paper: 0.1)"""
    beta_rew: float = 10.0
    """scale of the reward loss (paper: 1)"""

    # ---- behaviour
    imagination_horizon: int = 15
    """H, steps of a dream"""
    discount_horizon: float = 200.0
    """discount = 1 - 1 / this (paper: 333)"""
    lam: float = 0.95
    """lambda of the lambda-return"""
    entropy: float = 1e-2
    """eta, scale of the actor's entropy bonus (paper: 3e-4)"""
    entropy_end: float = 0.02
    """share of it left at the last update; it falls along a line (paper: 1, constant)"""
    beta_repval: float = 1.0
    """scale of the critic's loss on replayed rewards (paper: 0.3)"""
    slow_rate: float = 0.1
    """rate at which the slow critic follows the critic (paper: 0.02)"""
    slow_regulariser: float = 1.0
    """scale of the critic's pull towards the slow critic"""
    return_rate: float = 0.01
    """rate of the moving return percentiles"""
    return_floor: float = 0.3
    """least scale that advantages are divided by (paper: 1)"""

    # ---- optimiser
    lr: float = 1e-3
    """learning rate of LaProp, for all networks (paper: 4e-5)"""
    lr_end: float = 0.02
    """share of the learning rate left at the last update; it falls along a line (paper: 1, constant)"""
    warmup: int = 100
    """updates over which the learning rate rises from 0 (paper: not stated; official code: 1000)"""
    agc: float = 0.3
    """adaptive gradient clipping: largest gradient norm relative to the parameter's norm"""
    average_rate: float = 0.005
    """rate of the moving average of all weights that is evaluated (paper: no average, 1)"""

    @property
    def discount(self):
        return 1 - 1 / self.discount_horizon

    @property
    def planned_updates(self):
        """Updates of the whole run: what all steps after the prefill earn, or all steps if there are no others."""
        learning = self.steps - self.prefill if self.steps > self.prefill else self.steps
        return max(1, int(learning * self.train_ratio / (self.batch_size * self.batch_length)))


OFFICIAL = dict(
    recipe="official", batch_length=64, starts=0, cold_starts=0.0, train_ratio=512.0, prefill=0, capacity=5_000_000,
    late_hold=0, standardize=False, beta_rec=1.0, beta_dyn=1.0, beta_rep=0.1, beta_rew=1.0, discount_horizon=333.0, entropy=3e-4,
    entropy_end=1.0, beta_repval=0.3, slow_rate=0.02, return_floor=1.0, lr=4e-5, lr_end=1.0, warmup=1000, average_rate=1.0)
"""The paper's values (README, departure 4), where the course's recipe differs."""

"""The replay buffer: rows of experience as they happened, sampled as sequences that carry on.

A row t holds observation_t, reward_t (received on *arriving* there, 0 at a reset), is_first,
is_last, is_terminal, the action chosen *after* seeing it, and the latents (h_t, z_t) the agent had
there (the zero state if it had none). The final observation of an episode is a row of its own, without an action; the next row is
the reset. An episode of L steps is therefore L + 1 rows:

    row            0        1        2     |   3 (next episode)
    observation    o_0      o_1      o_2   |   o_0
    reward         0        r_1      r_2   |   0
    action         a_0      a_1      0     |   a_0
    is_first       1        0        0     |   1
    is_last        0        0        1     |   0        terminal or truncated
    is_terminal    0        0        1/0   |   0        only if terminated: truncation is not termination
"""

from collections import deque

import torch

FLAGS = ("is_first", "is_last", "is_terminal")


class Replay:
    """One ring of rows for each environment, preallocated: memory never grows past `capacity` rows.

    deter is stored in half precision, for it only starts sequences. Raises ValueError if
    `capacity` does not hold one window of batch_length + 1 rows for each of the `streams` environments.
    """

    def __init__(self, capacity, streams, spec, actions, deter, stoch, batch_length, seed=0):
        self.length = capacity // streams                               # rows per ring
        self.window = batch_length + 1                                  # one row of context first
        if self.length < self.window:
            raise ValueError(f"a capacity of {capacity} rows is less than one window of {self.window} "
                             f"for each of {streams} environments")
        shapes = {"action": ((actions,), torch.float32), "reward": ((), torch.float32),
                  "deter": ((deter,), torch.float16), "stoch": ((stoch,), torch.uint8),
                  **{flag: ((), torch.bool) for flag in FLAGS}}
        shapes |= {f"obs_{key}": value for key, value in {
            "vector": ((spec.vector,), torch.float32), "symbols": ((len(spec.symbols),), torch.int16),
            "image": ((64, 64, spec.image), torch.uint8)}.items() if value[0][-1]}
        # torch.empty only reserves addresses; the system hands out memory as rows are written.
        self.rows = {k: torch.empty((streams, self.length, *shape), dtype=dtype)
                     for k, (shape, dtype) in shapes.items()}
        self.count = torch.zeros(streams, dtype=torch.long)             # rows ever written, per ring
        # New windows (ring, start): each is trained on once before any is drawn at random. What does not fit is overwritten anyway.
        self.fresh = deque(maxlen=streams * -(-self.length // self.window))
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self):
        """Rows held at the moment."""
        return int(self.count.clamp(max=self.length).sum())

    def add(self, row, streams):
        """Append one row to each of the rings `streams` (n,); values of `row` are (n, ...)."""
        slot = self.count[streams] % self.length
        for key, store in self.rows.items():
            store[streams, slot] = torch.as_tensor(row[key]).to(store)
        self.count[streams] += 1
        for ring in streams.tolist():
            if self.count[ring] % self.window == 0:     # the last T of these rows will be trained on, unless overwritten before
                self.fresh.append((ring, int(self.count[ring]) - self.window))

    def cut(self):
        """Close episodes that a stop left unfinished: truncated, never terminated."""
        for ring, count in enumerate(self.count.tolist()):
            if count:
                self.rows["is_last"][ring, (count - 1) % self.length] = True

    def sample(self, batch, device="cpu"):
        """`batch` windows of T + 1 rows, each starting anywhere in any ring, across episodes.

        Returns batch (dict of (B, T, ...), with prev_action), state (the stored latents of the
        row before: deter (B, D), stoch class indices (B, S)) and the place of the rows: rings (B, 1) and slots (B, T).
        """
        rows, place = self.draw(batch, device)
        return rows, self.before(place, device), place

    def draw(self, batch, device="cpu"):
        """`sample` without the state, which an update that is still going on may yet change."""
        ring, start = self.pick(batch)
        slots = (start[:, None] + torch.arange(self.window)) % self.length      # (B, T+1)
        place = ring[:, None] * self.length + slots                             # among the rows of all rings
        take = lambda store: store.flatten(0, 1).index_select(0, place.flatten()).unflatten(0, place.shape)
        rows = {k: sent(take(v), device) for k, v in self.rows.items() if k not in ("deter", "stoch")}
        obs = {k[4:]: v[:, 1:] for k, v in rows.items() if k.startswith("obs_")}
        chosen = {k: rows[k][:, 1:] for k in ("reward", *FLAGS)}
        # The action that led to row t is the one stored with row t - 1.
        return {"obs": obs, "prev_action": rows["action"][:, :-1], **chosen}, (ring[:, None], slots[:, 1:])

    def before(self, place, device="cpu"):
        """The stored latents of the row before each window: deter (B, D), stoch class indices (B, S)."""
        context = place[0][:, 0], (place[1][:, 0] - 1) % self.length
        return self.rows["deter"][context].float().to(device), self.rows["stoch"][context].long().to(device)

    def windows(self):
        """Different windows that can be sampled, per ring: (streams,)."""
        return (self.count.clamp(max=self.length) - self.window + 1).clamp(min=0)

    def pick(self, batch):
        """Ring and first row, counted from the ring's beginning of time: (B,) each. Raises ValueError if there is no window yet."""
        oldest = (self.count - self.length).clamp(min=0)
        choices = self.windows()
        if not choices.any():
            raise ValueError(f"replay needs {self.window} rows in one environment before it can be sampled.")
        ends = choices.cumsum(0)
        flat = torch.randint(int(ends[-1]), (batch,), generator=self.generator)
        ring = torch.bucketize(flat, ends, right=True)                          # (B,)
        start = flat - (ends - choices)[ring] + oldest[ring]
        for i in range(min(batch, len(self.fresh))):
            queued_ring, queued_start = self.fresh.popleft()
            if queued_start >= oldest[queued_ring]:                             # not overwritten meanwhile
                ring[i], start[i] = queued_ring, queued_start
        return ring, start

    def write_back(self, place, deter, stoch):
        """Store fresh posteriors deter (B, T, D), stoch (B, T, S) class indices, where `place` says."""
        self.rows["deter"][place] = deter.to("cpu", torch.float16)
        self.rows["stoch"][place] = stoch.to("cpu", torch.uint8)

    def state_dict(self):
        """All that is held, to be written at once: with one ring the rows are its own memory, not a copy."""
        used = min(int(self.count.max()), self.length)
        return {"rows": {k: alone(v[:, :used]) for k, v in self.rows.items()}, "count": self.count.clone(),
                "fresh": list(self.fresh), "generator": self.generator.get_state()}

    def load_state_dict(self, state):
        for key, saved in state["rows"].items():
            self.rows[key][:, :saved.shape[1]] = saved
        self.count.copy_(state["count"])
        self.fresh = deque((tuple(item) for item in state["fresh"]), self.fresh.maxlen)
        self.generator.set_state(state["generator"])


def sent(rows, device):
    """`rows` on the device. To a GPU they go by pinned memory, so that nobody waits for what it is doing."""
    return rows.pin_memory().to(device, non_blocking=True) if torch.device(device).type == "cuda" else rows.to(device)


def alone(rows):
    """The same numbers as a tensor whose memory holds nothing else: `torch.save` would write a whole ring. Copies only if it must."""
    return torch.from_numpy(rows.numpy()) if rows.is_contiguous() else rows.contiguous()

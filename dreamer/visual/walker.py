"""The walker of the DeepMind Control Suite, drawn by the suite from its state vector, seen or dreamed."""

import numpy as np

from ..training.tasks import SHOWN, Suite

PARENTS = {"right_hip": ("torso", "right_thigh"), "right_knee": ("right_thigh", "right_leg"),
           "right_ankle": ("right_leg", "right_foot"), "left_hip": ("torso", "left_thigh"),
           "left_knee": ("left_thigh", "left_leg"), "left_ankle": ("left_leg", "left_foot")}   # joint: what it joins


class Painter:
    """Draws state vectors (24,): height, orientations of the seven bodies, speeds."""

    def __init__(self):
        self.env = Suite("walker_walk", "-proprio")
        self.env.reset(seed=0)
        self.physics = self.env.env.physics
        self.bodies = [self.physics.model.id2name(i, "body") for i in range(1, self.physics.model.nbody)]

    def pose(self, vector):
        """Put the walker into the state of an observation, which does not tell how far it has come."""
        xx, xz = np.asarray(vector[1:15], dtype=np.float64).reshape(-1, 2).T
        turned = dict(zip(self.bodies, np.arctan2(xz, xx)))             # about the y axis, of each body
        position = self.physics.named.data.qpos
        position["rootx"] = 0
        position["rootz"] = vector[0] - self.physics.named.model.body_pos["torso", "z"]
        position["rooty"] = turned["torso"]
        for joint, (parent, child) in PARENTS.items():                  # their axes point the other way
            position[joint] = turned[parent] - turned[child]
        self.physics.forward()

    def draw(self, vector):
        """(24,) -> picture uint8 (240, 240, 3). Raises TaskError if nothing can draw it."""
        self.pose(vector)
        return self.env.draw(SHOWN)

    def close(self):
        self.env.close()

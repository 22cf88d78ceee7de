"""Which observations are pictures, and what brings a picture of another kind to what the agent takes."""

import functools

import numpy as np
from gymnasium.spaces import Box

from ..world_model.encoder import IMAGE_SIZE
from .guard import TaskError, named

SMALLEST = 32       # sides of a picture: a smaller one is the number of its channels, two-dimensional floats are none
WHOLE = (IMAGE_SIZE, IMAGE_SIZE)
RESIZE = f"gymnasium.wrappers.ResizeObservation(env, {WHOLE}), which needs pip install opencv-python"
TRANSFORM = "gymnasium.wrappers.TransformObservation"


def is_image(space):
    """Is it an array of numbers that can only be meant as a picture, supported or not?"""
    if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.number):
        return False
    sides = len(space.shape)
    return sides == 3 or space.dtype == np.uint8 and sides in (2, 4) or sides == 2 and min(space.shape) >= SMALLEST


def check_image(key, space):
    """Channels of an image space; raises TaskError unless it is 64 x 64 uint8 with the channels last."""
    if trouble := trouble_with(space, key):
        problem, wrapper = trouble
        raise TaskError(f"{named(key)} is an image of {problem}; supported is uint8 (0 to 255) of shape ({IMAGE_SIZE}, "
                        f"{IMAGE_SIZE}, channels): wrap the environment in {wrapper}")
    return space.shape[2]


def transforming(key, new):
    """The wrapper that makes `new`, a text, of an observation, or of that part of it which lies under `key`."""
    return f"{TRANSFORM}(env, lambda obs: {f'{{**obs, {key!r}: {new}}}' if key else new}, space), where space is the new observation space"


def to_bytes(space, obs):
    """What brings the numbers of `obs`, a text, to 0 to 255."""
    low, high = float(np.min(space.low)), float(np.max(space.high))
    if (low, high) == (0, 255):
        return obs
    if not np.isfinite([low, high]).all():
        return f"(255 * ({obs} - low) / (high - low))"
    return f"(255 * {obs})" if (low, high) == (0, 1) else f"(255 * ({obs} - {low:g}) / {high - low:g})"


def trouble_with(space, key=None):
    """What is wrong with an image space, and the wrapper that helps: two texts, or None. key: of a dictionary, if it lies in one."""
    shape, obs = space.shape, f"obs[{key!r}]" if key else "obs"
    transform = functools.partial(transforming, key)
    resize = transform(f"cv2.resize({obs}, {WHOLE}).reshape({IMAGE_SIZE}, {IMAGE_SIZE}, -1)") + ", which needs pip install opencv-python" if key else RESIZE
    if space.dtype != np.uint8:
        whole = len(shape) == 3 and shape[:2] == WHOLE
        return f"dtype {space.dtype}" + f" and shape {shape}" * (not whole), transform(f"{to_bytes(space, obs)}.astype(np.uint8)")
    if len(shape) == 4 and shape[-1] == min(shape[1:]):
        return f"shape {shape}, a stack of pictures", transform(f"np.concatenate({obs}, -1)")
    if len(shape) == 4:
        return f"shape {shape}, a stack of pictures with the channels not last", f"{TRANSFORM}, with the channels of all of them last"
    if len(shape) == 2:
        return f"shape {shape}, without channels", (
            resize if shape != WHOLE else transform(f"{obs}[..., None]") if key
            else f"gymnasium.wrappers.ReshapeObservation(env, {(*shape, 1)})")
    channels = int(np.argmin(shape[::-1]))          # counted from the end; the last of equal sides
    others = np.delete(shape, 2 - channels)
    if channels and (others[0] == others[1] or min(shape) < SMALLEST):
        where, order = {2: ("first", (1, 2, 0)), 1: ("in the middle", (0, 2, 1))}[channels]
        return f"shape {shape}, with the channels {where}", transform(f"{obs}.transpose{order}")
    return None if shape[:2] == WHOLE else (f"shape {shape}", resize)

"""A dream beside reality, both drawn by the environment's own renderer.

Every picture is made from an observation vector: real ones come from an episode, dreamed ones from the
decoder. The vector is turned back into the state of the environment, and the environment draws itself.
"""

import math
import os
from contextlib import contextmanager

import gymnasium as gym
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..training.envs import TaskError, first_line
from .openloop import open_loop, segments

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
BAR, HEIGHT, GAP = 22, 220, 6                   # pixels
COLORS, SAMPLED = 64, 32                        # colours of each half of a palette, images that it is chosen from


@contextmanager
def no_window():
    """Let pygame draw without a screen, and leave the choice of a video driver as it was."""
    before = os.environ.get("SDL_VIDEODRIVER")
    os.environ["SDL_VIDEODRIVER"] = "dummy"
    try:
        yield
    finally:
        if before is None:
            del os.environ["SDL_VIDEODRIVER"]
        else:
            os.environ["SDL_VIDEODRIVER"] = before


# ------------------------------------------------------------------ observation -> state of the environment

def set_cartpole(env, vector, action):
    env.state = tuple(vector)                       # x, x_dot, theta, theta_dot: the observation is the state


def set_pendulum(env, vector, action):
    cos, sin, speed = vector
    env.state = np.array([math.atan2(sin, cos), speed])
    # The round arrow shows the torque that led here; the agent's actions are in units of the largest one.
    env.last_u = None if action is None else env.max_torque * float(np.clip(action[0], -1, 1))


def set_acrobot(env, vector, action):
    cos1, sin1, cos2, sin2, speed1, speed2 = vector
    env.state = np.array([math.atan2(sin1, cos1), math.atan2(sin2, cos2), speed1, speed2])


def set_lander(env, vector, action):
    """Undo the scaling of x and y, and hang the legs where they are in free flight; flames are not drawn."""
    from gymnasium.envs.box2d import lunar_lander as moon
    width, height = moon.VIEWPORT_W / moon.SCALE, moon.VIEWPORT_H / moon.SCALE
    x, angle = (1 + vector[0]) * width / 2, vector[4]
    y = vector[1] * height / 2 + env.helipad_y + moon.LEG_DOWN / moon.SCALE
    env.lander.position, env.lander.angle = (x, y), angle
    for leg in env.legs:
        joint = leg.joint
        # Each leg turns about the middle of the lander; its motor presses it against the inner limit.
        turned = angle + (joint.lowerLimit if joint.lowerLimit > 0 else joint.upperLimit)
        side = -moon.LEG_AWAY if joint.lowerLimit > 0 else moon.LEG_AWAY
        away, down = side / moon.SCALE, moon.LEG_DOWN / moon.SCALE
        leg.position = (x - away * math.cos(turned) + down * math.sin(turned),
                        y - away * math.sin(turned) - down * math.cos(turned))
        leg.angle = turned


SETTERS = {"CartPole-v1": set_cartpole, "Pendulum-v1": set_pendulum, "Acrobot-v1": set_acrobot,
           "LunarLander-v3": set_lander}


class Painter:
    """Draws observations of one task. seed: of the reset, which shapes the hills of LunarLander.

    Raises TaskError if the task has no entry in SETTERS or a package is missing.
    """

    def __init__(self, env_id, seed=0):
        if env_id not in SETTERS:
            raise TaskError(f"{env_id} cannot be drawn from its observations; {', '.join(SETTERS)} can")
        self.set = SETTERS[env_id]
        try:
            self.env = gym.make(env_id, render_mode="rgb_array").unwrapped
            self.env.reset(seed=seed)
            with no_window():
                self.env.render()
        except (gym.error.DependencyNotInstalled, ImportError) as error:
            raise TaskError(f"{env_id} cannot be drawn: {first_line(error)}") from None

    def draw(self, vector, action=None):
        """vector (V,) in the task's own units, action (A,): the one that led there -> picture uint8 (h, w, 3)."""
        self.set(self.env, [float(number) for number in vector], action)
        with no_window():
            return self.env.render()

    def close(self):
        self.env.close()


# ------------------------------------------------------------------ moving pictures

def shrink(picture):
    """(h, w, 3) -> an image HEIGHT pixels high."""
    image = Image.fromarray(picture)
    return image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS)


def frame(real, dream, left, right):
    """Two pictures side by side under a bar with a text above each: one image."""
    pictures = shrink(real), shrink(dream)
    width = pictures[0].width
    whole = Image.new("RGB", (2 * width + GAP, HEIGHT + BAR), "black")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(size=13)
    for picture, text, x in zip(pictures, (left, right), (0, width + GAP)):
        whole.paste(picture, (x, BAR))
        pen.text((x + 6, 3), text, fill="white", font=font)
    return whole


def beside(agent, env_id, episode, context, horizon, draw, seed=0):
    """One dream of the first rows of `episode`: a list of context + horizon images, real left, dream right.

    Up to row `context` both sides show what was seen; from there on the right one shows what the model
    says from the actions alone.
    """
    horizon = min(horizon, len(episode) - context)
    rows = segments([episode], context + horizon, every=len(episode))
    dreamed = open_loop(agent, rows, context, draw)["vector"][0, 0]             # (H, V)
    seen, action = rows["obs"]["vector"][0], rows["prev_action"][0]             # (context + H, ...)
    painter, images = Painter(env_id, seed), []
    for t in range(context + horizon):
        open_eyes = t < context
        torque = action[t] if t else None           # nothing led to the first row
        real = painter.draw(seen[t], torque)
        dream = real if open_eyes else painter.draw(dreamed[t - context], torque)
        text = "dream: still looking" if open_eyes else f"dream, eyes closed since step {context}"
        images.append(frame(real, dream, f"real, step {t}", text))
    painter.close()
    return images


def save_gif(images, path, milliseconds=60):
    """Write `images` as a GIF that repeats for ever, with one palette for all of them."""
    some = [image.convert("RGB").reduce(2) for image in images[::-(-len(images) // SAMPLED)]]
    strip = Image.new("RGB", (some[0].width, some[0].height * len(some)))
    for i, image in enumerate(some):
        strip.paste(image, (0, i * image.height))
    # One half of the palette has what is frequent, the other what is far apart: a key and a goal are few pixels.
    halves = [strip.quantize(COLORS, how).getpalette()[:3 * COLORS] for how in (Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(sum(halves, []))
    small = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    pause = [milliseconds] * (len(small) - 1) + [20 * milliseconds]         # rest on the last one
    small[0].save(path, save_all=True, append_images=small[1:], duration=pause, loop=0, optimize=True)

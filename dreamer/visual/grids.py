"""Views of MiniGrid, drawn by MiniGrid's own tile renderer from the agent's symbols, seen or dreamed."""

import numpy as np

SIDE, TILE = 7, 16      # cells along each side of the view, pixels of a cell


def view(symbols):
    """Symbols (..., 148), the direction first -> the cells (..., 7, 7, 3): object, colour and state of each."""
    return np.asarray(symbols)[..., 1:].reshape(*np.shape(symbols)[:-1], SIDE, SIDE, 3)


def draw(symbols):
    """Symbols (148,) -> picture uint8 (112, 112, 3): the agent at the bottom looks up; what it cannot see is dark."""
    from minigrid.core.grid import Grid
    grid, visible = Grid.decode(view(symbols).astype(np.uint8))
    return grid.render(TILE, agent_pos=(SIDE // 2, SIDE - 1), agent_dir=3, highlight_mask=visible)


def told_right(dreamed, seen):
    """Share of the cells whose object is told right, for each step: symbols (..., H, 148) x2 -> (..., H)."""
    return (view(dreamed)[..., 0] == view(seen)[..., 0]).mean((-2, -1))

"""An outcrop plugin: checkerboards of coarser and coarser squares, to probe networks with."""

import numpy as np

import outcrop


def checkerboard(material, level):
    y, x = np.indices(material.shape[:2])
    side = max(1, round(level * min(material.shape[:2]) / 2))
    board = np.where((y // side + x // side) % 2, 255, 0).astype(np.uint8)
    return [outcrop.Stimulus(f"squares of {side} pixels", np.repeat(board[:, :, None], 3, axis=2), level=level)]


@outcrop.hookimpl
def outcrop_stimuli():
    return [outcrop.StimulusFamily("checkerboard", "squares of black and white", takes="image", at=checkerboard)]

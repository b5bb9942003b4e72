"""Surfaces for the demo images: brushed metal, woven fabric, wood and stone, unevenly lit.

Everything is float32 on a square of ``size`` pixels. Textures have mean 0 and standard deviation 1; colors are in 0 to
1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

Rng = np.random.Generator
Texture = Callable[[Rng, int], np.ndarray]


def make_noise(rng: Rng, size: int, cell: float, octaves: int = 1) -> np.ndarray:
    """Return smooth noise with features about ``cell`` pixels wide; each octave halves width and weight."""
    total = np.zeros((size, size), dtype=np.float32)
    for octave in range(octaves):
        step = max(1.0, cell / 2**octave)
        grid = math.ceil(size / step) + 3
        coarse = rng.standard_normal((grid, grid)).astype(np.float32)
        side = math.ceil(grid * step)
        smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        # A random offset, so that the grid does not always start at the corner.
        top, left = rng.integers(0, side - size + 1, 2)
        total += smooth[top : top + size, left : left + size] / 2**octave
    return standardize_texture(total)


def standardize_texture(texture: np.ndarray) -> np.ndarray:
    """Scale the texture to mean 0 and standard deviation 1."""
    return ((texture - texture.mean()) / (texture.std() + 1e-6)).astype(np.float32)


def crop_rotated(texture: np.ndarray, angle: float, size: int) -> np.ndarray:
    """Rotate a larger texture by ``angle`` degrees and return its center, ``size`` pixels square."""
    side = texture.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, 1.0)
    whole = cv2.warpAffine(texture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    edge = (side - size) // 2
    return whole[edge : edge + size, edge : edge + size]


def make_metal(rng: Rng, size: int) -> np.ndarray:
    """Return fine streaks in one direction."""
    # A square 1.5 times as large covers the center at any rotation (the diagonal is 1.42 times the side).
    side = math.ceil(size * 1.5)
    grain = rng.standard_normal((side, side)).astype(np.float32)
    fine = standardize_texture(cv2.blur(grain, (int(rng.integers(21, 61)), 1)))
    broad = standardize_texture(cv2.blur(grain, (91, 3)))
    return standardize_texture(crop_rotated(fine + 0.6 * broad, rng.uniform(0, 180), size))


def make_fabric(rng: Rng, size: int) -> np.ndarray:
    """Return threads that cross over and under each other."""
    side, period = math.ceil(size * 1.5), rng.uniform(6, 11)
    line = np.arange(side, dtype=np.float32) * (2 * math.pi / period)
    x, y = np.meshgrid(line, line)
    bend = 0.5 * make_noise(rng, side, 40)
    warp, weft = np.sin(x + bend), np.sin(y - bend)
    weave = np.where(np.sin(x / 2 + bend / 2) * np.sin(y / 2 - bend / 2) > 0, np.abs(warp), np.abs(weft))
    threads = standardize_texture(weave.astype(np.float32)) + 0.5 * make_noise(rng, side, 3)
    return standardize_texture(crop_rotated(threads, rng.uniform(0, 90), size))


def make_wood(rng: Rng, size: int) -> np.ndarray:
    """Return wavy growth rings with fibers along them."""
    side = math.ceil(size * 1.5)
    _, y = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))
    stretched = cv2.resize(make_noise(rng, side, 24), (side * 3, side))[:, :side]
    rings = np.sin(2 * math.pi * y / rng.uniform(16, 30) + 2.2 * stretched)
    fibres = standardize_texture(cv2.blur(rng.standard_normal((side, side)).astype(np.float32), (25, 1)))
    return standardize_texture(crop_rotated(standardize_texture(rings) + 0.7 * fibres, rng.uniform(0, 180), size))


def make_stone(rng: Rng, size: int) -> np.ndarray:
    """Return clouds of several widths with light and dark grains."""
    clouds = make_noise(rng, size, 36, octaves=4)
    grains = make_noise(rng, size, 3)
    return standardize_texture(clouds + 0.9 * np.sign(grains) * np.maximum(np.abs(grains) - 1.1, 0) * 2)


MATERIALS: dict[str, tuple[Texture, tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "metal": (make_metal, (0.50, 0.70), (0.00, 0.12), (0.05, 0.09)),
    "fabric": (make_fabric, (0.00, 1.00), (0.10, 0.55), (0.10, 0.17)),
    "wood": (make_wood, (0.04, 0.11), (0.30, 0.60), (0.08, 0.14)),
    "stone": (make_stone, (0.05, 0.45), (0.03, 0.25), (0.08, 0.14)),
}
"""The texture of each material, and its ranges of hue, saturation and texture strength."""


def make_surface(rng: Rng, size: int) -> np.ndarray:
    """Return an evenly lit image of a random material: RGB in 0 to 1, (size, size, 3)."""
    texture, hues, saturations, strengths = MATERIALS[str(rng.choice(list(MATERIALS)))]
    relief = texture(rng, size) * rng.uniform(*strengths)
    hsv = np.array([[[rng.uniform(*hues) * 360, rng.uniform(*saturations), rng.uniform(0.38, 0.72)]]], dtype=np.float32)
    base = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]
    # A slight drift of each channel, so that the color of a surface is not constant.
    drift = np.stack([make_noise(rng, size, 70) for _ in range(3)], axis=-1) * 0.02
    return (base * (1 + relief[..., None] + drift)).astype(np.float32)


def make_illumination(rng: Rng, size: int) -> np.ndarray:
    """Return the light on a surface, around 1: a gradient, a soft spot, and sometimes a broad shadow."""
    line = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    angle = rng.uniform(0, 2 * math.pi)
    light = 1 + rng.uniform(0.05, 0.25) * (x * math.cos(angle) + y * math.sin(angle))
    cx, cy, width = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.5, 1.0)
    light += rng.uniform(-0.15, 0.2) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * width**2))
    if rng.random() < 0.35:
        angle, edge = rng.uniform(0, 2 * math.pi), rng.uniform(-0.4, 0.6)
        side = x * math.cos(angle) + y * math.sin(angle) - edge
        light *= 1 - rng.uniform(0.1, 0.3) / (1 + np.exp(-side / 0.12))
    return light.astype(np.float32)

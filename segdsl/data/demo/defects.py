"""Defects for the demo images: scratches, stains and dents, distinguished by shape and shading rather than color.

A defect is drawn into an image (float32 RGB, 0 to 1) and into its mask. Pixels that a person could not decide on are
ignored: the soft rim of a stain, the fading end of a scratch, the foot of a dent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from segdsl.data.demo.surfaces import Rng, make_noise

BACKGROUND, SCRATCH, STAIN, DENT, IGNORE = 0, 1, 2, 3, 255
CLASSES = ("background", "scratch", "stain", "dent")
COLORS = ((0, 0, 0), (230, 60, 60), (60, 160, 230), (240, 200, 60))


class DefectStyle(NamedTuple):
    """The appearance of defects; lengths in pixels, contrasts relative to the local brightness."""

    scratch_width: tuple[float, float] = (6.5, 9.5)
    scratch_length: tuple[float, float] = (80.0, 190.0)
    scratch_contrast: tuple[float, float] = (0.50, 0.90)
    stain_radius: tuple[float, float] = (18.0, 36.0)
    stain_contrast: tuple[float, float] = (0.30, 0.52)
    dent_radius: tuple[float, float] = (14.0, 26.0)
    dent_contrast: tuple[float, float] = (0.40, 0.80)
    counts: tuple[float, ...] = (0.08, 0.14, 0.26, 0.28, 0.24)
    """Probabilities of 0, 1, 2, … defects in an image."""


class Defect(NamedTuple):
    """One defect: ``gain`` multiplies the image, (H, W, 3), and ``mask`` has its class, the ignore value or 0."""

    gain: np.ndarray
    mask: np.ndarray
    smoothing: np.ndarray
    """How much of the surface texture is smoothed away, 0 to 1, (H, W)."""


def draw_defects(rng: Rng, image: np.ndarray, light_angle: float, style: DefectStyle) -> tuple[np.ndarray, np.ndarray]:
    """Return the image with some defects, and its mask.

    ``light_angle`` is the direction of the light in radians. Defects do not touch each other.
    """
    size = image.shape[0]
    mask = np.zeros((size, size), dtype=np.uint8)
    count = int(rng.choice(len(style.counts), p=style.counts))
    for _ in range(count):
        kind = DRAW_FUNCTIONS[int(rng.integers(len(DRAW_FUNCTIONS)))]
        # Six attempts to find a free place; in a crowded image the defect is left out.
        for _ in range(6):
            mark = kind(rng, size, light_angle, style)
            surroundings = cv2.dilate((mark.mask > 0).astype(np.uint8), np.ones((9, 9), np.uint8))
            if not mask[surroundings > 0].any():
                image = _smooth_texture(image, mark.smoothing) * mark.gain
                mask = np.where(mark.mask > 0, mark.mask, mask)
                break
    return image, mask


def _smooth_texture(image: np.ndarray, share: np.ndarray) -> np.ndarray:
    if not share.any():
        return image
    smooth = cv2.GaussianBlur(image, (0, 0), 5)
    return image + share[..., None] * (smooth - image)


def draw_scratch(rng: Rng, size: int, light_angle: float, style: DefectStyle) -> Defect:
    """Draw a groove with one flank in the light and the other in the shade."""
    width, length = rng.uniform(*style.scratch_width), rng.uniform(*style.scratch_length)
    points, fade = _make_scratch_path(rng, size, length)
    line = np.zeros((size, size), dtype=np.uint8)
    cv2.polylines(line, [np.rint(points * 8).astype(np.int32)], False, 255, round(width), cv2.LINE_AA, shift=3)
    # The strength along the path, spread over the width of the line.
    strength = np.zeros((size, size), dtype=np.float32)
    for (x, y), s in zip(points, fade, strict=True):
        cv2.circle(strength, (round(x), round(y)), round(width), float(s), -1)
    strength = cv2.GaussianBlur(strength, (0, 0), 2)
    soft = cv2.GaussianBlur(line.astype(np.float32) / 255, (0, 0), width / 6)
    dx, dy = width * 0.3 * math.cos(light_angle), width * 0.3 * math.sin(light_angle)
    relief = _shift_image(soft, dx, dy) - _shift_image(soft, -dx, -dy)
    contrast = rng.uniform(*style.scratch_contrast)
    core = 0.25 * soft * rng.choice([-1.0, 1.0])
    gain = 1 + contrast * strength * (relief + core)
    inside = line > 100
    label = np.where(inside, np.where(strength > 0.35, SCRATCH, IGNORE), BACKGROUND).astype(np.uint8)
    return Defect(np.repeat(gain[..., None], 3, axis=2), label, 0.7 * soft * (strength > 0.3))


def _make_scratch_path(rng: Rng, size: int, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a random path, (n, 2), and the strength along it, (n,)."""
    steps = max(8, round(length / 4))
    turns = np.cumsum(rng.normal(0, 0.05, steps)) + rng.normal(0, 0.03) * np.arange(steps) / 4
    heading = rng.uniform(0, 2 * math.pi) + turns
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * 4, axis=0)
    path += rng.uniform(0.2, 0.8, 2) * size - path[steps // 2]
    along = np.linspace(0, 1, steps)
    fade = np.minimum(1, np.minimum(along, 1 - along) / 0.1 + 0.15)
    return path.astype(np.float32), fade.astype(np.float32)


def _shift_image(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    matrix = np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float32)
    return cv2.warpAffine(image, matrix, (image.shape[1], image.shape[0]), flags=cv2.INTER_LINEAR)


def draw_stain(rng: Rng, size: int, light_angle: float, style: DefectStyle) -> Defect:
    """Draw a spill with a ragged outline and a strong rim; it darkens or brightens the surface but not its texture."""
    radius = rng.uniform(*style.stain_radius)
    cx, cy = rng.uniform(radius * 0.5, size - radius * 0.5, 2)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    angle, distance = np.arctan2(y - cy, x - cx), np.hypot(x - cx, y - cy)
    outline = np.full_like(distance, radius)
    # Low-frequency harmonics of the radius make the outline ragged but keep it closed.
    for k in range(2, 6):
        outline += radius * rng.normal(0, 0.22 / k) * np.cos(k * angle + rng.uniform(0, 2 * math.pi))
    depth = (outline - distance + 1.5 * make_noise(rng, size, 6)) / rng.uniform(1.5, 3.0)
    cover = 1 / (1 + np.exp(-depth))
    rim = np.exp(-((depth - 1.5) ** 2) / 3)
    sign = rng.choice([-1.0, 1.0], p=[0.6, 0.4])
    contrast = rng.uniform(*style.stain_contrast) * sign
    body = cover * (0.75 + 0.12 * make_noise(rng, size, 12)) + 0.35 * rim
    tint = 1 + rng.uniform(-0.25, 0.25, 3)
    gain = 1 + contrast * body[..., None] * tint
    label = np.where(cover > 0.6, STAIN, np.where(cover > 0.2, IGNORE, BACKGROUND)).astype(np.uint8)
    return Defect(gain.astype(np.float32), label, 0.35 * cover)


def draw_dent(rng: Rng, size: int, light_angle: float, style: DefectStyle) -> Defect:
    """Draw a hollow or a bump: shaded on one side, lit on the other, with the mean brightness of the surface."""
    a = rng.uniform(*style.dent_radius)
    b, turn = a * rng.uniform(0.75, 1.0), rng.uniform(0, math.pi)
    cx, cy = rng.uniform(a * 0.8, size - a * 0.8, 2)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    # Coordinates along the axes of the ellipse, in units of its radii: r = 1 is the outline.
    u = ((x - cx) * math.cos(turn) + (y - cy) * math.sin(turn)) / a
    v = ((y - cy) * math.cos(turn) - (x - cx) * math.sin(turn)) / b
    r = np.hypot(u, v)
    height = np.where(r < 1, (1 - r**2) ** 2, 0).astype(np.float32)
    slope_y, slope_x = np.gradient(height * a * 0.5)
    shade = slope_x * math.cos(light_angle) + slope_y * math.sin(light_angle)
    shade /= np.abs(shade).max() + 1e-6
    # Inverting the shading turns a hollow into a bump.
    sign = rng.choice([-1.0, 1.0], p=[0.3, 0.7])
    gain = 1 + sign * rng.uniform(*style.dent_contrast) * shade
    label = np.where(r < 0.95, DENT, np.where(r < 1.08, IGNORE, BACKGROUND)).astype(np.uint8)
    return Defect(np.repeat(gain[..., None], 3, axis=2).astype(np.float32), label, 0.3 * height)


DRAW_FUNCTIONS: tuple[Callable[[Rng, int, float, DefectStyle], Defect], ...] = (draw_scratch, draw_stain, draw_dent)
"""The drawing functions of the three defects."""

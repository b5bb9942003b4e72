"""Arguments of each augmentation in the example images of the reference."""

from __future__ import annotations

from segdsl.ir.program import Augmentation
from segdsl.ir.values import Range, Size
from segdsl.words import augmentations as words

_GALLERY_EXAMPLES = (
    # Ranges are wide and probabilities high, so that four draws are enough to see the effect.
    words.RandomCrop(size=Size(112, 112)),
    words.Resize(size=Size(128, 192), scale=Range(0.5, 1.0), fit="letterbox"),
    words.HorizontalFlip(),
    words.VerticalFlip(),
    words.Rotate(range=Range(-30, 30, "deg"), p=1.0),
    words.Affine(rotate=Range(-20, 20, "deg"), scale=Range(0.7, 1.3), shear=Range(-15, 15, "deg"), p=1.0),
    words.AugMix(severity=0.6, p=1.0),
    words.GaussianBlur(sigma=Range(0.5, 4.0), p=1.0),
    words.GaussianNoise(std=Range(5, 40), p=1.0),
    words.Grayscale(p=0.5),
)


def make_gallery_example(word: type[Augmentation]) -> Augmentation:
    """Return the augmentation with its example arguments, or with `p = 1` if it has none here."""
    chosen: dict[type[Augmentation], Augmentation] = {type(example): example for example in _GALLERY_EXAMPLES}
    certain = {"p": 1.0} if "p" in word.model_fields else {}
    return chosen.get(word) or word(**certain)

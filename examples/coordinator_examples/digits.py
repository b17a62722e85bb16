"""Handwritten digits: a scikit-learn classifier that is trained when the worker starts, behind a batch handler.

    coordinator worker coordinator_examples.digits:worker

The input is an image of 8 × 8 grey values from 0 to 16, row by row; the output is the digit. The classifier learns from
every second image of scikit-learn's bundled data; the others stay unseen, and show how good it is.
"""

from __future__ import annotations

from typing import Any

from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier

from coordinator.worker import Fail, Worker

PIXELS = 64
worker = Worker()
classifier = ExtraTreesClassifier(n_estimators=200, random_state=0)


def images() -> tuple[list[list[float]], list[int]]:
    """All 1,797 images and the digits they show. Those at even places are learned from, those at odd places unseen."""
    pixels, digits = load_digits(return_X_y=True)
    return pixels.tolist(), digits.tolist()


@worker.startup
def train() -> None:
    pixels, digits = images()
    classifier.fit(pixels[::2], digits[::2])


@worker.model("digits", capacity=1, batch=16, batch_wait=0.005, timeout=30)
def predict(batch: list[list[float]]) -> list[int]:
    """One call of the classifier costs about the same for one image as for sixteen, so it gets what is there."""
    good = [image for image in batch if len(image) == PIXELS]
    found = iter(classifier.predict(good).tolist() if good else [])
    outputs: list[Any] = [
        next(found) if len(image) == PIXELS else Fail(f"An image has {PIXELS} values, not {len(image)}.")
        for image in batch
    ]
    return outputs

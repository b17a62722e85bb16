"""Wine: typed input, one job a call, a structured output.

    coordinator worker coordinator_examples.wine:worker
    coordinator submit wine '{"alcohol": 13.2, "flavanoids": 2.8, "color_intensity": 4.4, "proline": 1050}' --wait 10

What does not fit the type of the input, or its limits, fails that job for good, and the error says which field.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from coordinator.worker import Worker

Share = Annotated[float, msgspec.Meta(ge=0)]


class Wine(msgspec.Struct, forbid_unknown_fields=True):
    """Some of what a chemist measures."""

    alcohol: Annotated[float, msgspec.Meta(ge=0, le=100)]
    """Per cent by volume."""
    flavanoids: Share
    color_intensity: Share
    proline: Share
    """mg/l."""


class Cultivar(msgspec.Struct):
    """Which of three cultivars it is, and how sure that is, from 0 to 1."""

    cultivar: int
    probability: float


worker = Worker()
classifier = make_pipeline(StandardScaler(), LogisticRegression())


@worker.startup
def train() -> None:
    data = load_wine()
    columns = [data.feature_names.index(name) for name in Wine.__struct_fields__]
    classifier.fit(data.data[:, columns], data.target)


@worker.model("wine", capacity=2)
def classify(wine: Wine) -> Cultivar:
    probabilities = classifier.predict_proba([msgspec.structs.astuple(wine)])[0]
    best = int(probabilities.argmax())
    return Cultivar(best, round(float(probabilities[best]), 4))

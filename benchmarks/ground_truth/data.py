"""The data: scikit-learn's digits, circles, blobs and the like. Small enough that a net is trained in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_blobs, make_circles, make_moons
from sklearn.model_selection import train_test_split
from torch import Tensor


@dataclass(frozen=True)
class Data:
    """Inputs (N, features) and classes (N,), for training and for testing."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: int

    @property
    def features(self) -> int:
        """Inputs of a net."""
        return self.train_x.shape[1]

    def share(self, accuracy: float) -> float:
        """Of the way from chance to all right: 0 is guessing, 1 perfect."""
        chance = 1 / self.classes
        return (accuracy - chance) / (1 - chance)


@cache
def data_named(name: str) -> Data:
    """digits: 8×8 images of ten classes; circles and moons: two curves in the plane; blobs: eight clouds in ten
    dimensions; wine: 13 measurements of three kinds; "raw" ones, cancer's 30 measurements among them, as they come:
    wine's reach from 0.1 to 1,700, cancer's from 1e-3 to 4,000, digits' from 0 to 16."""
    if name == "digits":
        x, y = load_digits(return_X_y=True)
        x = (x - x.mean()) / x.std()
    elif name == "circles":
        x, y = make_circles(1000, noise=0.08, factor=0.5, random_state=0)
        x = (x - x.mean(0)) / x.std(0)
    elif name == "blobs":
        x, y = make_blobs(1000, n_features=10, centers=8, cluster_std=2.0, random_state=0)
        x = (x - x.mean(0)) / x.std(0)
    elif name == "moons":
        x, y = make_moons(1000, noise=0.15, random_state=0)
        x = (x - x.mean(0)) / x.std(0)
    elif name == "wine":
        x, y = load_wine(return_X_y=True)
        x = (x - x.mean(0)) / x.std(0)
    elif name == "raw wine":
        x, y = load_wine(return_X_y=True)
    elif name == "raw cancer":
        x, y = load_breast_cancer(return_X_y=True)
    elif name == "raw digits":
        x, y = load_digits(return_X_y=True)
    else:
        raise ValueError(f"no data set is called {name}")
    parts = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    train_x, test_x = (torch.from_numpy(np.ascontiguousarray(part)).float() for part in parts[:2])
    train_y, test_y = (torch.from_numpy(part).long() for part in parts[2:])
    return Data(train_x, train_y, test_x, test_y, int(y.max()) + 1)

"""The net of many an article on batch normalization: 784-500-BN-ReLU-10. One normalized block: no chain.

The digits are scaled up to MNIST's 28x28, so that there are 784 inputs. The norm makes the first
layer's bias void; GT004 notes it.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def build_model() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(784, 500),
        nn.BatchNorm1d(500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


def load_data() -> tuple[TensorDataset, TensorDataset]:
    """The digits for training and for the test: images (N, 784) in [0, 1], labels (N,)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    images = F.interpolate(images, size=(28, 28), mode="bilinear", align_corners=False).flatten(1)
    x_train, x_test, y_train, y_test = train_test_split(
        images, torch.tensor(digits.target), test_size=0.2, random_state=0, stratify=digits.target
    )
    return TensorDataset(x_train, y_train), TensorDataset(x_test, y_test)


def train(model: nn.Module, data: TensorDataset, epochs: int) -> None:
    loader = DataLoader(data, batch_size=64, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for inputs, targets in loader:
            loss = F.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(inputs)
        print(f"epoch {epoch:3d}  loss {total / len(data):.4f}")


@torch.no_grad()
def accuracy(model: nn.Module, data: TensorDataset) -> float:
    model.eval()
    inputs, targets = data.tensors
    return (model(inputs).argmax(dim=1) == targets).float().mean().item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()

    torch.manual_seed(0)
    train_set, test_set = load_data()
    model = build_model()
    train(model, train_set, args.epochs)
    print(f"test accuracy {accuracy(model, test_set):.1%}")

"""Two sigmoid layers on scikit-learn's 8x8 digits: shallow enough that the gradient arrives, and it learns.

The file names no example inputs: what the model takes can be read off its first layer.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class ShallowSigmoidMLP(nn.Module):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, width)
        self.fc2 = nn.Linear(width, width)
        self.out = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.fc1(x))
        x = torch.sigmoid(self.fc2(x))
        return self.out(x)


def load_data() -> tuple[TensorDataset, TensorDataset]:
    """The digits for training and for the test: images (N, 64) in [0, 1], labels (N,)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        torch.tensor(images, dtype=torch.float32) / 16,
        torch.tensor(labels),
        test_size=0.2,
        random_state=0,
        stratify=labels,
    )
    return TensorDataset(x_train, y_train), TensorDataset(x_test, y_test)


def train(model: nn.Module, data: TensorDataset, epochs: int) -> None:
    loader = DataLoader(data, batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
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
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()

    torch.manual_seed(0)
    train_set, test_set = load_data()
    model = ShallowSigmoidMLP()
    train(model, train_set, args.epochs)
    print(f"test accuracy {accuracy(model, test_set):.1%}")

"""Twelve sigmoid layers on scikit-learn's 8x8 digits, without normalization: the gradient dies on the way back.

With PyTorch's default initialization each block takes it down to a seventh, and the net stays at chance (10 %).
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class DeepSigmoidMLP(nn.Module):
    def __init__(self, depth: int = 12, width: int = 128) -> None:
        super().__init__()
        self.inp = nn.Linear(64, width)
        self.body = nn.ModuleList([nn.Linear(width, width) for _ in range(depth - 1)])
        self.out = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.inp(x))
        for layer in self.body:
            x = torch.sigmoid(layer(x))
        return self.out(x)


loss_fn = nn.CrossEntropyLoss()


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


def example_batch() -> tuple[Tensor, Tensor]:
    """One training batch: images (64, 64) and labels (64,)."""
    inputs, targets = load_data()[0][:64]
    return inputs, targets


def train(model: nn.Module, data: TensorDataset, epochs: int) -> None:
    loader = DataLoader(data, batch_size=64, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    model.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for inputs, targets in loader:
            loss = loss_fn(model(inputs), targets)
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
    model = DeepSigmoidMLP()
    train(model, train_set, args.epochs)
    print(f"test accuracy {accuracy(model, test_set):.1%}")

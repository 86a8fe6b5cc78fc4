"""Sixteen 3x3 convolutions with ReLU on scikit-learn's 8x8 digits, VGG style, without normalization or shortcuts.

With PyTorch's default initialization the signal fades block by block, the gradient too: the net stays at chance (10 %).
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def conv_stage(in_channels: int, channels: int, depth: int) -> nn.Sequential:
    """`depth` convolutions that keep the image's size, each with its ReLU."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(in_channels, channels, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
        in_channels = channels
    return nn.Sequential(*layers)


class PlainConvNet(nn.Module):
    def __init__(self, channels: int = 16, stage_depth: int = 8) -> None:
        super().__init__()
        self.stage1 = conv_stage(1, channels, stage_depth)
        self.stage2 = conv_stage(channels, channels, stage_depth)
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stage1(x), 2)
        x = self.stage2(x)
        return self.classifier(x.mean(dim=(2, 3)))


def loss_fn(output: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(output, targets)


def load_data() -> tuple[TensorDataset, TensorDataset]:
    """The digits for training and for the test: images (N, 1, 8, 8) in [0, 1], labels (N,)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    x_train, x_test, y_train, y_test = train_test_split(
        images, torch.tensor(digits.target), test_size=0.2, random_state=0, stratify=digits.target
    )
    return TensorDataset(x_train, y_train), TensorDataset(x_test, y_test)


def example_batch() -> tuple[Tensor, Tensor]:
    """One training batch: images (64, 1, 8, 8) and labels (64,)."""
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
    parser.add_argument("--epochs", type=int, default=15)
    args = parser.parse_args()

    torch.manual_seed(0)
    train_set, test_set = load_data()
    model = PlainConvNet()
    train(model, train_set, args.epochs)
    print(f"test accuracy {accuracy(model, test_set):.1%}")

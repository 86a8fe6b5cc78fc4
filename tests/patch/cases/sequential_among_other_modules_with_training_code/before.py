#!/usr/bin/env python3
"""Fit a noisy sine with a multilayer perceptron.

Usage:
    python model.py --epochs 100
"""
import argparse
import math

import torch
import torch.nn as nn
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset


class SineNet(nn.Module):
    """y = f(x)

    Args:
        hidden (int): width of every hidden layer, as in nn.Linear(1, hidden)
    """

    def __init__(self, hidden=24):
        super().__init__()
        self.register_buffer("scale", torch.tensor(math.pi))
        self.net = nn.Sequential(
            nn.Linear(1, hidden),
            nn.Tanh(),

            nn.Linear(hidden, hidden),
            nn.Tanh(),

            # nn.Linear(hidden, hidden), nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),

            nn.Linear(hidden, hidden),
            nn.Tanh(),

            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.net(x * self.scale)


def data(n=256):
    x = torch.rand(n, 1) * 2 - 1
    return TensorDataset(x, torch.sin(3 * x) + 0.1 * torch.randn(n, 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    model = SineNet()
    opt = optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        for x, y in DataLoader(data(), batch_size=32, shuffle=True):
            opt.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            opt.step()
        print("epoch %d: loss %.4f" % (epoch, loss.item()))


if __name__ == "__main__":
    main()

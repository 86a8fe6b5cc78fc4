"""A batch norm written by hand, with two faults that tutorials pass on, in a net that trains in spite of them.

Nothing crashes and the loss goes down, which is why such faults live long. Use `nn.BatchNorm1d`.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class BatchNorm1d(nn.Module):
    """Batch normalization of (N, C), as it should not be written.

    Fault 1: the running statistics are parameters, and forward overwrites them. So the optimizer has them too and
    takes its own steps on them, weight decay included. They should be buffers (`register_buffer`): those are saved in
    the `state_dict` all the same, and no optimizer sees them.

    Fault 2: `running_var` stands where epsilon belongs. It about doubles the variance that is divided by, so that the
    output's spread is 1/sqrt(2) and not 1 and depends on earlier batches, and it is not there when a unit's variance
    goes to zero, which is what epsilon is for. It should be `torch.sqrt(var + 1e-5)`.

    Together: the loss has a gradient with respect to `running_var`, and nothing keeps the optimizer from pushing it
    below zero. Adam at 0.001 does not get that far. SGD at 0.05 does, and ends in NaN with four seeds of five, where
    `nn.BatchNorm1d` trains with all of them.
    """

    def __init__(self, num_features: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.gamma = nn.Parameter(torch.ones(num_features))
        self.beta = nn.Parameter(torch.zeros(num_features))
        self.running_mean = nn.Parameter(torch.zeros(num_features))
        self.running_var = nn.Parameter(torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            mean = x.mean(dim=0)
            var = x.var(dim=0, unbiased=False)
            self.running_mean.data = (1 - self.momentum) * self.running_mean.data + self.momentum * mean.data
            self.running_var.data = (1 - self.momentum) * self.running_var.data + self.momentum * var.data
        else:
            mean, var = self.running_mean, self.running_var
        x_hat = (x - mean) / torch.sqrt(var + self.running_var)
        return self.gamma * x_hat + self.beta


def block(in_features: int, out_features: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_features, out_features), BatchNorm1d(out_features), nn.ReLU())


class Net(nn.Module):
    def __init__(self, width: int = 100) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            block(64, width),
            block(width, width),
            block(width, width),
            block(width, width),
            nn.Linear(width, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


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
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
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
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()

    torch.manual_seed(0)
    train_set, test_set = load_data()
    model = Net()
    train(model, train_set, args.epochs)
    print(f"test accuracy {accuracy(model, test_set):.1%}")

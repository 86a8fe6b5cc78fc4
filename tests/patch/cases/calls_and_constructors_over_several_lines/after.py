import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self, config=None):
        super().__init__()
        self.config = config or {"in": 12, "hidden": 24}
        self.conv1 = nn.Conv1d(
            in_channels=self.config["in"],
            out_channels=self.config["hidden"],
            kernel_size=3,
            padding=1,
        )
        self.bn1 = nn.BatchNorm1d(self.config["hidden"])
        self.conv2 = nn.Conv1d(self.config["hidden"], self.config["hidden"],
                               kernel_size=3,
                               padding=1)
        self.bn2 = nn.BatchNorm1d(self.config["hidden"])
        self.conv3 = \
            nn.Conv1d(self.config["hidden"], self.config["hidden"], 3, padding=1)
        self.bn3 = nn.BatchNorm1d(self.config["hidden"])
        self.conv4 = nn.Conv1d(
            self.config["hidden"], 2 * self.config["hidden"], 3, padding=1
        )  # doubles the channels
        self.bn4 = nn.BatchNorm1d(2 * self.config["hidden"])
        self.head = nn.Linear(2 * self.config["hidden"], 5)

    def forward(self, x):
        x = torch.relu(
            self.bn1(self.conv1(x))
        )
        x = torch.relu(
            self.bn2(self.conv2(
                x
            ))
        )
        x = torch.nn.functional.gelu(
            self.bn3(self.conv3(x)), approximate="tanh",
        )
        x = (
            self.bn4(self.conv4(x))
            .relu()
            .mean(dim=-1)
        )
        return self.head(x)


example_inputs = torch.randn(4, 12, 10)

import torch
import torch.nn as nn


class ECGNet(nn.Module):
    """1d convolutions for a one-lead signal."""

    def __init__(self, n_classes: int = 3, base: int = 4):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, base, 7, padding=3),
            nn.BatchNorm1d(base),
            nn.ELU(),
            nn.MaxPool1d(2),
            nn.Conv1d(base, base * 2, 5, padding=2),
            nn.BatchNorm1d(base * 2),
            nn.ELU(),
            nn.MaxPool1d(2),
            nn.Conv1d(base * 2, base * 4, 3, padding=1),
            nn.BatchNorm1d(base * 4),
            nn.ELU(),
            nn.AdaptiveAvgPool1d(4),
        )
        self.fc = nn.Linear(base * 4 * 4, 16)
        self.norm = nn.BatchNorm1d(16)
        self.out = nn.Linear(16, n_classes)

    def forward(self, x):
        x = self.layers(x)
        x = x.view(x.size(0), -1)
        return self.out(torch.nn.functional.elu(self.norm(self.fc(x))))


example_inputs = torch.randn(4, 1, 32)

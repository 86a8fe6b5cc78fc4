import torch
import torch.nn as nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleDict()
        channels = 2
        for stage in ("s1", "s2", "s3", "s4"):
            self.convs[stage] = nn.Conv1d(channels, 2 * channels, 3, padding=1)
            channels *= 2
        self.head = nn.Linear(channels, 4)

    def forward(self, x):
        for stage in self.convs:
            x = torch.relu(self.convs[stage](x))
        return self.head(x.mean(-1))


example_inputs = torch.randn(4, 2, 12)

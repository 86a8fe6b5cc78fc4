from collections import OrderedDict

import torch
from torch import nn

f = 6
model = nn.Sequential(OrderedDict([
    ("conv1", nn.Conv1d(2, f, 3, padding=1)), ("act1", nn.ELU()),
    ("conv2", nn.Conv1d(f, f, 3, padding=1)), ("act2", nn.ELU()),
    ("conv3", nn.Conv1d(f, f, 3, padding=1)), ("act3", nn.ELU()),
    ("conv4", nn.Conv1d(f, f, 3, padding=1)), ("act4", nn.ELU()),
    ("last", nn.Conv1d(f, 2, 1)),
]))
example_inputs = torch.randn(4, 2, 9)

from collections import OrderedDict

import torch
from torch import nn

model = nn.Sequential(OrderedDict([
    ('fc1', nn.Linear(28, 32)),
    ('relu1', nn.ReLU()),
    ('fc2', nn.Linear(32, 32)),
    ('relu2', nn.ReLU()),
    ('fc3', nn.Linear(32, 32)),
    ('relu3', nn.ReLU()),
    ('fc4', nn.Linear(32, 32)),
    ('relu4', nn.ReLU()),
    ('output', nn.Linear(32, 10)),
    ('softmax', nn.Softmax(dim=1)),
]))

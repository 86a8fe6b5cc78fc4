import torch
import torch.nn as nn


def make_model(in_features=10, width=20, depth=4):
    modules: list[nn.Module] = []
    for i in range(depth):
        modules.extend([
            nn.Linear(in_features if i == 0 else width, width),
            nn.BatchNorm1d(width),
            nn.LeakyReLU(negative_slope=0.2),
        ])
    modules.extend((nn.Linear(width, width), nn.BatchNorm1d(width), nn.LeakyReLU(0.2)))
    modules.append(nn.Linear(width, 1))
    return nn.Sequential(*modules)

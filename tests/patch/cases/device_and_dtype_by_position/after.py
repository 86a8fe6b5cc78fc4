import torch
from torch import nn


def make_model(width: int = 10, device: str = "cpu", dtype: torch.dtype = torch.float64) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(5, width, True, device, dtype),
        nn.BatchNorm1d(width, device=device, dtype=dtype),
        nn.ReLU(),
        nn.Linear(width, width, True, device, dtype),
        nn.BatchNorm1d(width, device=device, dtype=dtype),
        nn.ReLU(),
        nn.Linear(width, width, True, device, dtype),
        nn.BatchNorm1d(width, device=device, dtype=dtype),
        nn.ReLU(),
        nn.Linear(width, width, True, device, dtype),
        nn.BatchNorm1d(width, device=device, dtype=dtype),
        nn.ReLU(),
        nn.Linear(width, 1, True, device, dtype),
    )


example_inputs = torch.randn(8, 5, dtype=torch.float64)

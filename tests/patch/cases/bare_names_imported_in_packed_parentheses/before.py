import torch
from torch.nn import (Module, Linear, Sigmoid,
                      Sequential, Dropout)


def build_model(width: int = 14, p: float = 0.1) -> Module:
    return Sequential(
        Linear(14, width), Sigmoid(), Dropout(p),
        Linear(width, width), Sigmoid(), Dropout(p),
        Linear(width, width), Sigmoid(), Dropout(p),
        Linear(width, width), Sigmoid(), Dropout(p),
        Linear(width, 2),
    )

from torch import nn


def build_model(input_dim: int = 20, hidden: int = 64, classes: int = 3) -> nn.Sequential:
    """The model that the paper calls M."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(input_dim, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(hidden, hidden // 2),  # narrower from here on
        nn.BatchNorm1d(hidden // 2),
        nn.ReLU(),
        nn.Linear(hidden // 2, hidden // 4),
        nn.BatchNorm1d(hidden // 4),
        nn.ReLU(),
        nn.Linear(hidden // 4, classes),
    )

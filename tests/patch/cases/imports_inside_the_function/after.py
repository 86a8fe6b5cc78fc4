def build_model(n_features=8, width=16):
    from torch.nn import BatchNorm1d, Linear, ReLU, Sequential

    return Sequential(
        Linear(n_features, width), BatchNorm1d(width), ReLU(),
        Linear(width, width), BatchNorm1d(width), ReLU(),
        Linear(width, width), BatchNorm1d(width), ReLU(),
        Linear(width, width), BatchNorm1d(width), ReLU(),
        Linear(width, 1),
    )

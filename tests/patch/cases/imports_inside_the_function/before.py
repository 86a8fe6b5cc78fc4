def build_model(n_features=8, width=16):
    from torch.nn import Linear, ReLU, Sequential

    return Sequential(
        Linear(n_features, width), ReLU(),
        Linear(width, width), ReLU(),
        Linear(width, width), ReLU(),
        Linear(width, width), ReLU(),
        Linear(width, 1),
    )

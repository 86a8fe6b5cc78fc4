from collections import OrderedDict

import torch.nn as nn

HIDDEN = 24


def get_model():
    return nn.Sequential(
        OrderedDict(
            {
                "hidden_in": nn.Linear(12, HIDDEN),
                "relu_in": nn.ReLU(),
                "hidden_a": nn.Linear(HIDDEN, HIDDEN),
                "relu_a": nn.ReLU(),
                "hidden_b": nn.Linear(HIDDEN, HIDDEN),
                "relu_b": nn.ReLU(),
                "hidden_c": nn.Linear(HIDDEN, HIDDEN),
                "relu_c": nn.ReLU(),
                "out": nn.Linear(HIDDEN, 2),
            }
        )
    )

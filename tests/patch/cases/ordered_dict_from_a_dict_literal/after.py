from collections import OrderedDict

import torch.nn as nn

HIDDEN = 24


def get_model():
    return nn.Sequential(
        OrderedDict(
            {
                "hidden_in": nn.Linear(12, HIDDEN),
                "hidden_in_norm": nn.BatchNorm1d(HIDDEN),
                "relu_in": nn.ReLU(),
                "hidden_a": nn.Linear(HIDDEN, HIDDEN),
                "hidden_a_norm": nn.BatchNorm1d(HIDDEN),
                "relu_a": nn.ReLU(),
                "hidden_b": nn.Linear(HIDDEN, HIDDEN),
                "hidden_b_norm": nn.BatchNorm1d(HIDDEN),
                "relu_b": nn.ReLU(),
                "hidden_c": nn.Linear(HIDDEN, HIDDEN),
                "hidden_c_norm": nn.BatchNorm1d(HIDDEN),
                "relu_c": nn.ReLU(),
                "out": nn.Linear(HIDDEN, 2),
            }
        )
    )

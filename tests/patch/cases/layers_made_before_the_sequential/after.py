import torch
from torch import nn


def get_model(n_in=8, n_hidden=24):
    fc1 = nn.Linear(n_in, n_hidden)
    fc2 = nn.Linear(n_hidden, n_hidden)
    fc3 = nn.Linear(n_hidden, n_hidden)
    fc4 = nn.Linear(n_hidden, n_hidden)
    out = nn.Linear(n_hidden, 1)
    for layer in (fc1, fc2, fc3, fc4):
        nn.init.xavier_normal_(layer.weight, gain=nn.init.calculate_gain('tanh'))
    return nn.Sequential(fc1, nn.BatchNorm1d(n_hidden), nn.Tanh(), fc2, nn.BatchNorm1d(n_hidden), nn.Tanh(), fc3, nn.BatchNorm1d(n_hidden), nn.Tanh(), fc4, nn.BatchNorm1d(n_hidden), nn.Tanh(), out)

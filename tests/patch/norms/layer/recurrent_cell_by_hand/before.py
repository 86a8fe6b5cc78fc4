import torch
from torch import nn


class RNN(nn.Module):
    def __init__(self, n_in=6, n_hidden=12, n_out=3):
        super().__init__()
        self.n_hidden = n_hidden
        self.i2h = nn.Linear(n_in + n_hidden, n_hidden)
        self.h2o = nn.Linear(n_hidden, n_out)

    def forward(self, x):
        hidden = x.new_zeros(x.shape[0], self.n_hidden)
        for step in x.unbind(1):
            hidden = torch.tanh(self.i2h(torch.cat([step, hidden], dim=1)))
        return self.h2o(hidden)


example_inputs = torch.randn(4, 5, 6)

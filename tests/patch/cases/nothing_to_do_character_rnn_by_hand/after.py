import torch
import torch.nn as nn


class RNN(nn.Module):
    """Elman's network, one step after the other: its hidden layer is stepped, so it takes no batch norm."""

    def __init__(self, input_size=10, hidden_size=16, output_size=5):
        super(RNN, self).__init__()
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(input_size + hidden_size, hidden_size)
        self.h2o = nn.Linear(hidden_size, output_size)

    def forward(self, line):
        hidden = torch.zeros(line.size(0), self.hidden_size)
        for i in range(line.size(1)):
            combined = torch.cat((line[:, i], hidden), 1)
            hidden = torch.tanh(self.i2h(combined))
        return self.h2o(hidden)


example_inputs = torch.randn(4, 6, 10)

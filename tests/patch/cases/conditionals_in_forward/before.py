import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, in_dim=10, hidden=20, out_dim=2, dropout=0.0, use_extra=True, activation='relu'):
        super().__init__()
        self.use_extra = use_extra
        self.dropout = dropout
        self.activation = activation
        self.fc1 = nn.Linear(in_dim, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        if use_extra:
            self.fc3 = nn.Linear(hidden, hidden)
        self.fc4 = nn.Linear(hidden, hidden)
        self.fc5 = nn.Linear(hidden, out_dim)

    def _act(self, x):
        if self.activation == 'relu':
            return F.relu(x)
        elif self.activation == 'tanh':
            return torch.tanh(x)
        else:
            raise ValueError(self.activation)

    def forward(self, x):
        if x.dim() > 2:
            x = x.flatten(1)
        x = self._act(self.fc1(x))
        x = self._act(self.fc2(x))
        if self.dropout > 0:
            x = F.dropout(x, p=self.dropout, training=self.training)
        if self.use_extra:
            x = self._act(self.fc3(x))
        x = self._act(self.fc4(x))
        return self.fc5(x)


example_inputs = torch.randn(6, 10)

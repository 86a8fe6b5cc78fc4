import torch
import torch.nn as nn

class MLP(nn.Module):
    def __init__(self, n_in=20, n_hidden=40, n_out=5):
        super().__init__()
        self.dense1 = nn.Linear(n_in, n_hidden)
        self.bn1 = nn.BatchNorm1d(n_hidden)
        self.dense2 = nn.Linear(n_hidden, n_hidden)
        self.bn2 = nn.BatchNorm1d(n_hidden)
        self.dense3 = nn.Linear(n_hidden, n_hidden)
        self.bn3 = nn.BatchNorm1d(n_hidden)
        self.dense4 = nn.Linear(n_hidden, n_hidden)
        self.bn4 = nn.BatchNorm1d(n_hidden)
        self.dense5 = nn.Linear(n_hidden, n_out)

    def forward(self, x):
        x = self.bn1(self.dense1(x)).relu()
        x = self.bn2(self.dense2(x)).relu_()
        x = self.bn3(self.dense3(x)).clamp(min=0)
        x = self.bn4(self.dense4(x)).sigmoid()
        return self.dense5(x).softmax(dim=-1)

import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.fc1 = nn.Linear(20, hidden)
        self.ln1 = nn.LayerNorm(hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.ln2 = nn.LayerNorm(hidden)
        self.fc3 = nn.Linear(hidden, hidden // 2)  # narrower
        self.ln3 = nn.LayerNorm(hidden // 2)
        self.fc4 = nn.Linear(hidden // 2, 10)
        self.ln4 = nn.LayerNorm(10)
        self.out = nn.Linear(10, 2)

    def forward(self, x):
        x = F.relu(self.ln1(self.fc1(x)))
        x = F.relu(self.ln2(self.fc2(x)))
        x = F.relu(self.ln3(self.fc3(x)))
        return self.out(F.relu(self.ln4(self.fc4(x))))

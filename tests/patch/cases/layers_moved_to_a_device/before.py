import torch
import torch.nn as nn
import torch.nn.functional as F

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Net(nn.Module):
    def __init__(self, hidden=12):
        super().__init__()
        self.fc1 = nn.Linear(6, hidden).to(device)
        self.fc2 = nn.Linear(hidden, hidden).to(device)
        self.fc3 = nn.Linear(hidden, hidden).to(device)
        self.fc4 = nn.Linear(hidden, hidden).to(device)
        self.fc5 = nn.Linear(hidden, 1).to(device)

    def forward(self, x):
        x = F.relu(self.fc1(x.to(device)))
        x = F.relu(self.fc2(x))
        x = F.relu(self.fc3(x))
        x = F.relu(self.fc4(x))
        return self.fc5(x)


example_inputs = torch.randn(4, 6)

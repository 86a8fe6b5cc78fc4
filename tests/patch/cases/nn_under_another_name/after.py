import torch.nn as N
import torch.nn.functional as Fn


class Net(N.Module):
    def __init__(self):
        super().__init__()
        self.hidden1 = N.Linear(7, 14)
        self.bn1 = N.BatchNorm1d(14)
        self.hidden2 = N.Linear(14, 14)
        self.bn2 = N.BatchNorm1d(14)
        self.hidden3 = N.Linear(14, 14)
        self.bn3 = N.BatchNorm1d(14)
        self.hidden4 = N.Linear(14, 14)
        self.bn4 = N.BatchNorm1d(14)
        self.output = N.Linear(14, 1)

    def forward(self, inputs):
        h = Fn.gelu(self.bn1(self.hidden1(inputs)))
        h = Fn.gelu(self.bn2(self.hidden2(h)))
        h = Fn.gelu(self.bn3(self.hidden3(h)))
        h = Fn.gelu(self.bn4(self.hidden4(h)))
        return self.output(h)

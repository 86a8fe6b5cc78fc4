import torch

from nets.base import Layers


class Net(Layers):
    def forward(self, x):
        x = torch.relu(self.bn1(self.fc1(x)))
        x = torch.relu(self.bn2(self.fc2(x)))
        x = torch.relu(self.bn3(self.fc3(x)))
        x = torch.relu(self.bn4(self.fc4(x)))
        return self.fc5(x)


model = Net(width=20)
example_inputs = torch.randn(8, 10)

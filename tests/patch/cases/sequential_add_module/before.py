import torch.nn as nn

net = nn.Sequential()
net.add_module("fc1", nn.Linear(12, 24))
net.add_module("relu1", nn.ReLU())
for i in range(2, 5):
    net.add_module(f"fc{i}", nn.Linear(24, 24))
    net.add_module(f"relu{i}", nn.ReLU())
net.add_module("out", nn.Linear(24, 3))

model = net

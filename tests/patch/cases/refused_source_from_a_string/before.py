import torch
import torch.nn as nn

TEMPLATE = """
class Net(nn.Module):
    def __init__(self, width={width}):
        super().__init__()
        self.net = nn.Sequential({layers} nn.Linear(width, 1))

    def forward(self, x):
        return self.net(x)
"""

names = {"nn": nn, "__name__": __name__}
exec(TEMPLATE.format(width=16, layers="nn.Linear(width, width), nn.ReLU(), " * 5), names)
model = names["Net"]()

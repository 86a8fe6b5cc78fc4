import torch.nn as nn

# [...] * 4 holds the same layer four times
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), *[nn.Linear(16, 16), nn.ReLU()] * 4, nn.Linear(16, 1))

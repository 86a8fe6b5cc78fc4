import torch
import torch.nn as nn

width, depth = 16, 6
blocks = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
model = nn.Sequential(*blocks, nn.Linear(width, 2))

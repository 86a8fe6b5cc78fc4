from torch.nn import *
import torch

H = 18

model = Sequential(
    Linear(9, H),
    ReLU(),
    Linear(H, H),
    ReLU(),
    Linear(H, H),
    ReLU(),
    Linear(H, H),
    ReLU(),
    Linear(H, 1))

example_inputs = torch.randn(4, 9)

import torch
import torch.nn as nn

# a sigmoid net as in the nineties
model = nn.Sequential(
          nn.Linear(10, 20),
          nn.Sigmoid(),
          nn.Linear(20, 20),
          nn.Sigmoid(),
          nn.Linear(20, 20),
          nn.Sigmoid(),
          nn.Linear(20, 20),
          nn.Sigmoid(),
          nn.Linear(20, 2)
        )
loss_fn = nn.MSELoss(reduction='sum')

example_inputs = torch.randn(8, 10)

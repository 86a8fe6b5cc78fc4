import torch
from torch import nn


class Critic(nn.Module):
    def __init__(self, obs_dim: int = 17, act_dim: int = 6, width: int = 32) -> None:
        super().__init__()
        self.inp = nn.Linear(obs_dim + act_dim, width)
        self.middle = nn.Linear(width, width)
        self.upper = nn.Linear(width, width)
        self.last_hidden = nn.Linear(width, width)
        self.value = nn.Linear(width, 1)
        self.act = nn.SiLU()

    def forward(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        h = torch.cat([obs, action], dim=-1)
        h = self.act(self.inp(h))
        h = self.act(self.middle(h))
        h = self.act(self.upper(h))
        h = self.act(self.last_hidden(h))
        return self.value(h)


example_inputs = (torch.randn(16, 17), torch.randn(16, 6))

from dataclasses import dataclass, field

import torch
import torch.nn as nn


@dataclass
class Config:
    n_features: int = 12
    width: int = 16
    n_classes: int = 3
    device: str = field(default="cpu")


class Block(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.up = nn.Linear(cfg.width, cfg.width * 2, device=cfg.device)
        self.up_norm = nn.BatchNorm1d(cfg.width * 2, device=cfg.device)
        self.down = nn.Linear(cfg.width * 2, cfg.width, device=cfg.device)
        self.down_norm = nn.BatchNorm1d(cfg.width, device=cfg.device)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.down_norm(self.down(self.act(self.up_norm(self.up(x))))))


class Net(nn.Module):
    def __init__(self, cfg: Config = Config()) -> None:
        super().__init__()
        self.embed = nn.Linear(cfg.n_features, cfg.width)
        self.blocks = nn.Sequential(*(Block(cfg) for _ in range(3)))
        self.head = nn.Linear(cfg.width, cfg.n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embed(x)))


example_inputs = torch.randn(8, 12)

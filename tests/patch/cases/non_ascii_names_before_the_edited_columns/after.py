import torch
from torch import nn


class Größennetz(nn.Module):
    """Bestimmt die Größe (σ² = 1)."""

    def __init__(self, größe: int = 14) -> None:
        super().__init__()
        self.größe = größe; self.schicht1 = nn.Linear(7, größe)
        self.schicht1_norm = nn.BatchNorm1d(größe)
        self.schicht2 = nn.Linear(größe, größe)
        self.schicht2_norm = nn.BatchNorm1d(größe)
        self.schicht3 = nn.Linear(größe, größe)
        self.schicht3_norm = nn.BatchNorm1d(größe)
        self.schicht4 = nn.Linear(größe, größe)
        self.schicht4_norm = nn.BatchNorm1d(größe)
        self.ausgang = nn.Linear(größe, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        länge = "λ→" * 2; h = torch.tanh(self.schicht1_norm(self.schicht1(x)))
        größer = torch.tanh(self.schicht2_norm(self.schicht2(h))) if "größer" else h
        assert länge != "日本語"
        h = torch.tanh(self.schicht3_norm(self.schicht3(größer))); h = torch.tanh(self.schicht4_norm(self.schicht4(h)))
        return self.ausgang(h)


example_inputs = torch.randn(8, 7)

import torch
from torch import nn

device = "cpu"  # "cuda" on the cluster


class Net(nn.Module):
    def __init__(self, dim: int = 12, device=device, dtype=torch.float64) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, dim, device=device, dtype=dtype)
        self.fc2 = nn.Linear(dim, dim, bias=False, device=device, dtype=dtype)
        self.fc3 = nn.Linear(dim, dim, dtype=dtype, device=device)
        self.fc4 = nn.Linear(
            dim,
            dim,
            device=device,
            dtype=dtype,
        )
        self.fc5 = nn.Linear(dim, 1, device=device, dtype=dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc1(x).relu()
        x = self.fc2(x).relu()
        x = self.fc3(x).relu()
        x = self.fc4(x).relu()
        return self.fc5(x)


example_inputs = torch.randn(8, 12, dtype=torch.float64)

import torch
import torch.nn as nn

g = torch.Generator().manual_seed(2147483647)


class MLP(nn.Module):
    """Bengio et al. 2003, with more hidden layers than they had."""

    def __init__(self, vocab_size=27, block_size=3, n_embd=4, n_hidden=20):
        super().__init__()
        self.block_size = block_size
        self.wte = nn.Embedding(vocab_size, n_embd)
        self.mlp = nn.Sequential(
            nn.Linear(block_size * n_embd, n_hidden),
            nn.Tanh(),
            nn.Linear(n_hidden, n_hidden, bias=True),
            nn.Tanh(),
            nn.Linear(n_hidden, n_hidden),
            nn.Tanh(),
            nn.Linear(n_hidden, n_hidden),
            nn.Tanh(),
            nn.Linear(n_hidden, vocab_size)
        )

    def forward(self, idx):
        x = self.wte(idx)
        x = x.view(x.shape[0], -1)
        return self.mlp(x)


example_inputs = torch.randint(27, (8, 3), generator=g)

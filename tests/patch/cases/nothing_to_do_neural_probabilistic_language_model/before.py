import torch
import torch.nn as nn
import torch.nn.functional as F


class NGramLanguageModeler(nn.Module):
    """One hidden layer: too shallow to be a chain."""

    def __init__(self, vocab_size=50, embedding_dim=8, context_size=3):
        super().__init__()
        self.context_size, self.embedding_dim = context_size, embedding_dim
        self.embeddings = nn.Embedding(vocab_size, embedding_dim)
        self.linear1 = nn.Linear(context_size * embedding_dim, 32)
        self.linear2 = nn.Linear(32, vocab_size)

    def forward(self, inputs):
        embeds = self.embeddings(inputs).view((-1, self.context_size * self.embedding_dim))
        out = torch.tanh(self.linear1(embeds))
        out = self.linear2(out)
        return F.log_softmax(out, dim=1)


example_inputs = torch.randint(50, (8, 3))

import torch
import torch.nn as nn


class CharRNN(nn.Module):
    """The recurrence is inside nn.LSTM."""

    def __init__(self, n_chars=30, hidden_size=16, n_layers=2):
        super().__init__()
        self.embed = nn.Embedding(n_chars, hidden_size)
        self.lstm = nn.LSTM(hidden_size, hidden_size, n_layers, batch_first=True)
        self.decoder = nn.Linear(hidden_size, n_chars)

    def forward(self, text):
        out, _ = self.lstm(self.embed(text))
        return self.decoder(out)


example_inputs = torch.randint(30, (4, 12))

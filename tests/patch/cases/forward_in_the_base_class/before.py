import abc

import torch
import torch.nn as nn


class Template(nn.Module, abc.ABC):
    def __init__(self):
        super().__init__()
        self.build()

    @abc.abstractmethod
    def build(self):
        """Makes self.a, self.b, self.c, self.d and self.head."""

    def forward(self, x):
        x = torch.tanh(self.a(x))
        x = torch.tanh(self.b(x))
        x = torch.tanh(self.c(x))
        x = torch.tanh(self.d(x))
        return self.head(x)


class Small(Template):
    WIDTH = 12

    def build(self):
        self.a = nn.Linear(6, self.WIDTH)
        self.b = nn.Linear(self.WIDTH, self.WIDTH)
        self.c = nn.Linear(self.WIDTH, self.WIDTH)
        self.d = nn.Linear(self.WIDTH, self.WIDTH)
        self.head = nn.Linear(self.WIDTH, 1)


model = Small()

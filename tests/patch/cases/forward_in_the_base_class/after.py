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
        x = torch.tanh(self.a_norm(self.a(x)))
        x = torch.tanh(self.b_norm(self.b(x)))
        x = torch.tanh(self.c_norm(self.c(x)))
        x = torch.tanh(self.d_norm(self.d(x)))
        return self.head(x)


class Small(Template):
    WIDTH = 12

    def build(self):
        self.a = nn.Linear(6, self.WIDTH)
        self.a_norm = nn.BatchNorm1d(self.WIDTH)
        self.b = nn.Linear(self.WIDTH, self.WIDTH)
        self.b_norm = nn.BatchNorm1d(self.WIDTH)
        self.c = nn.Linear(self.WIDTH, self.WIDTH)
        self.c_norm = nn.BatchNorm1d(self.WIDTH)
        self.d = nn.Linear(self.WIDTH, self.WIDTH)
        self.d_norm = nn.BatchNorm1d(self.WIDTH)
        self.head = nn.Linear(self.WIDTH, 1)


model = Small()

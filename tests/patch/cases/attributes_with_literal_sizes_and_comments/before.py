import torch
import torch.nn.functional as F
from torch import nn


class DigitClassifier(nn.Module):

    def __init__(self):
        super().__init__()

        # encoder
        self.linear1 = nn.Linear(64, 128)   # 8x8 pixels
        self.linear2 = nn.Linear(128, 128)

        # bottleneck
        self.linear3 = nn.Linear(128,  32)  # two spaces, on purpose
        self.linear4 = nn.Linear( 32, 32 )

        # classifier
        self.out = nn.Linear(32, 10)

    def forward(self, x):
        x = x.view(x.size(0), -1)
        x = torch.tanh(self.linear1(x))     # -> 128
        x = torch.tanh( self.linear2(x) )
        x = torch.tanh(self.linear3( x ))
        x = self.linear4(x).tanh()
        return F.log_softmax(self.out(x), dim=1)


example_inputs = torch.randn(8, 1, 8, 8)

import torch
import torch.nn as nn

ndf = 2


class Discriminator(nn.Module):
    def __init__(self, nc=3):
        super(Discriminator, self).__init__()
        self.conv1 = nn.Conv2d(nc, ndf, 4, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(ndf)
        self.conv2 = nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(ndf * 2)
        self.conv3 = nn.Conv2d(ndf * 2, ndf * 4, 4, 2, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(ndf * 4)
        self.conv4 = nn.Conv2d(ndf * 4, ndf * 8, 4, 2, 1, bias=False)
        self.bn4 = nn.BatchNorm2d(ndf * 8)
        self.conv5 = nn.Conv2d(ndf * 8, 1, 4, 1, 0, bias=False)
        self.lrelu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, input):
        x = self.lrelu(self.bn1(self.conv1(input)))   # 32 x 32
        x = self.lrelu(self.bn2(self.conv2(x)))       # 16 x 16
        x = self.lrelu(self.bn3(self.conv3(x)))       # 8 x 8
        x = self.lrelu(self.bn4(self.conv4(x)))       # 4 x 4
        return torch.sigmoid(self.conv5(x)).view(-1)


example_inputs = torch.randn(4, 3, 64, 64)

import torch
import torch.nn as nn
import torch.nn.functional as F


class UNet(nn.Module):
    """A small U-Net, two levels deep."""

    def __init__(self, c=4, n_classes=1):
        super().__init__()
        # contracting path
        self.enc1a = nn.Conv2d(1, c, 3, padding=1)
        self.enc1a_norm = nn.BatchNorm2d(c)
        self.enc1b = nn.Conv2d(c, c, 3, padding=1)
        self.enc1b_norm = nn.BatchNorm2d(c)
        self.enc2a = nn.Conv2d(c, c * 2, 3, padding=1)
        self.enc2a_norm = nn.BatchNorm2d(c * 2)
        self.enc2b = nn.Conv2d(c * 2, c * 2, 3, padding=1)
        self.enc2b_norm = nn.BatchNorm2d(c * 2)
        # bottleneck
        self.mid_a = nn.Conv2d(c * 2, c * 4, 3, padding=1)
        self.mid_a_norm = nn.BatchNorm2d(c * 4)
        self.mid_b = nn.Conv2d(c * 4, c * 4, 3, padding=1)
        self.mid_b_norm = nn.BatchNorm2d(c * 4)
        # expanding path
        self.up2 = nn.ConvTranspose2d(c * 4, c * 2, 2, stride=2)
        self.dec2 = nn.Conv2d(c * 4, c * 2, 3, padding=1)
        self.up1 = nn.ConvTranspose2d(c * 2, c, 2, stride=2)
        self.dec1 = nn.Conv2d(c * 2, c, 3, padding=1)
        self.out = nn.Conv2d(c, n_classes, 1)

    def forward(self, x):
        e1 = F.relu(self.enc1b_norm(self.enc1b(F.relu(self.enc1a_norm(self.enc1a(x))))))
        e2 = F.relu(self.enc2b_norm(self.enc2b(F.relu(self.enc2a_norm(self.enc2a(F.max_pool2d(e1, 2)))))))
        m = F.relu(self.mid_b_norm(self.mid_b(F.relu(self.mid_a_norm(self.mid_a(F.max_pool2d(e2, 2)))))))
        d2 = F.relu(self.dec2(torch.cat([self.up2(m), e2], dim=1)))
        d1 = F.relu(self.dec1(torch.cat([self.up1(d2), e1], dim=1)))
        return self.out(d1)


example_inputs = torch.randn(2, 1, 16, 16)

#!/usr/bin/env python
# -*- coding: latin-1 -*-
# Ein Netz für die Prüfung; Größen in Stück
import torch
import torch.nn as nn

model = nn.Sequential(
    nn.Linear(8, 16), nn.Tanh(),  # für den Anfang: größer
    nn.Linear(16, 16), nn.Tanh(),  # §
    nn.Linear(16, 16),
    nn.Tanh(),
    nn.Dropout({"wenig": 0.1, "größer": 0.5}["größer"]), nn.Linear(16, 16), nn.Tanh(),
    nn.Linear(16, 1),
)

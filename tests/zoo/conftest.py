"""What the public model zoos need before they are imported; tests that need one that is not installed are skipped."""

from __future__ import annotations

from torchvision_operators import provide

provide()

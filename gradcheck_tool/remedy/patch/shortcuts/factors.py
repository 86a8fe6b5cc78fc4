"""The text that makes a shortcut's factor, a number that is learned and starts at zero."""

from __future__ import annotations

import libcst as cst

from gradcheck_tool.remedy.patch.imports import torch_name
from gradcheck_tool.remedy.patch.scene import Scene
from gradcheck_tool.remedy.patch.source import Source
from gradcheck_tool.remedy.patch.writing import class_name


def factor_text(scene: Scene, source: Source, layer: cst.BaseExpression | None) -> str:
    """`nn.Parameter(torch.zeros(()))`, in the file's own spelling; what it needs is imported.

    Args:
        scene: where the imports are noted.
        source: the file.
        layer: what constructs the layer there, whose spelling is followed; None where that is not in sight.
    """
    name, splices = torch_name(source)
    scene.change(source, *splices)
    return f"{class_name(scene, source, layer, 'Parameter')}({name}.zeros(()))"

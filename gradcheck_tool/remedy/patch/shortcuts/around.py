"""One shortcut that is to be written, and the place in forward at which its block begins."""

from __future__ import annotations

from dataclasses import dataclass

import libcst as cst
from torch import fx, nn

from gradcheck_tool.remedy.patch.calls import Site, resolved
from gradcheck_tool.remedy.patch.scene import Layer, Scene
from gradcheck_tool.sources import Where


@dataclass(frozen=True, eq=False)
class Around:
    """A shortcut around the block that begins with a call of `layer` and ends in the node `end`."""

    layer: Layer
    end: fx.Node

    @property
    def ended(self) -> Where | None:
        """The point in the source at which the block's last operation is called."""
        return self.end.meta.get("where")


def site_of(scene: Scene, layer: Layer) -> Site | None:
    """The place that calls a layer; None where that is not in the user's files."""
    found = scene.node_at(layer.called)
    if found is None:
        return None
    source, node = found
    return Site(source, node, resolved(source, node.func) if isinstance(node, cst.Call) else None, node, ())


def sizes_of(module: nn.Module) -> tuple[str, str] | None:
    """The attributes of a weight layer that hold its sizes; None for one with two inputs."""
    pairs = (("in_features", "out_features"), ("in_channels", "out_channels"))
    return next((pair for pair in pairs if all(hasattr(module, name) for name in pair)), None)


def keeps_size(module: nn.Module) -> bool:
    """Whether a weight layer has as many outputs as inputs."""
    names = sizes_of(module)
    return names is not None and getattr(module, names[0]) == getattr(module, names[1])

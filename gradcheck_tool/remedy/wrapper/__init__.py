"""A fixed model as a file: a short module that builds the user's model and applies the plan to it.

The file that is written calls what is here, so that it builds wherever it and the user's file lie together.
"""

from gradcheck_tool.remedy.wrapper.building import build_fixed, build_remedied

__all__ = ["build_fixed", "build_remedied"]

"""Small nets, really trained: which of them learn at all. `benchmarks/trainability.py` is the command.

data.py has the data sets, nets.py builds a net from a cell, cells.py lists the cells, training.py trains and labels
them, and labels.json holds what came of it.
"""

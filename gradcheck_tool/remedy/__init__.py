"""Remedies: plan.py says what goes where, or why not; rewrite.py does it to a graph, patch/ to the user's own source;
bias.py removes what norms make void; outcome.py says whether it helped; wrapper/ writes it as a file.
"""

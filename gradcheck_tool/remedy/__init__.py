"""Remedies: plan.py says what goes where, or why not; rewrite.py does it to a graph; outcome.py says whether it helped;
wrapper.py writes it as a file.
"""

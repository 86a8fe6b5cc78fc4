"""A plan, written into the user's own source files as a colleague would: small changes, everything else to the byte.

proposing.py makes the proposals, verify.py has each checked in a fresh process before it is shown.
"""

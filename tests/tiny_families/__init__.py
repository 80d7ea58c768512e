"""Tiny random-weight checkpoints of the real classes, in the layout of their Hub repositories."""

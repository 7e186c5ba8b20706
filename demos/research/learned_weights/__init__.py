"""Learned weights: a small network looks at a frame and says how far to trust each of its depths, for tracking."""

"""Learned noise: a smoother that knows how far to trust each image, taught through its own solution."""

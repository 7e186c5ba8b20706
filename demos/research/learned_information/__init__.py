"""Learned information: how sure an alignment is, learned through the trajectory that is smoothed from many of them."""

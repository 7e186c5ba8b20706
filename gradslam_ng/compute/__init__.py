"""How tensors are run: compiled kernels, activation checkpointing, branch-free masks."""

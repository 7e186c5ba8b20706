"""Block-sparse matrices, factorized by a multifrontal method or, where it is installed, by CHOLMOD."""

from gradslam_ng.optim.sparse.block_sparse import BlockSparse, Pattern, SparseFactor

__all__ = ["BlockSparse", "Pattern", "SparseFactor"]

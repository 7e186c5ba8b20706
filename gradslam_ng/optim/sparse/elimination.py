"""Elimination order and supernodes of sparse Cholesky factorization, from the structure of a matrix of blocks."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

MAY_PAD = ((48, 1.0), (96, 0.4), (192, 0.2), (np.inf, 0.08))  # supernodes up to so many columns: share of zeros allowed


def minimum_degree(count: int, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """The place (N,) of each block in an order of elimination that keeps the factor sparse."""
    if count < 3:
        return np.arange(count)
    rows, cols = rows[rows != cols], cols[rows != cols]
    degree = np.bincount(rows, minlength=count) + np.bincount(cols, minlength=count)
    diagonal = np.arange(count)
    values = np.concatenate([np.full(2 * len(rows), -1.0), degree + 1.0])  # dominant: nothing is exchanged for size
    places = (np.concatenate([rows, cols, diagonal]), np.concatenate([cols, rows, diagonal]))
    graph = coo_matrix((values, places), shape=(count, count)).tocsc()
    symmetric = {"SymmetricMode": True}
    return splu(graph, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=symmetric).perm_c


def supernodes(sizes: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[list, list, list]:
    """Columns, rows below and parent of each supernode, in postorder; blocks are named by their place.

    A column joins its child's supernode if that costs few explicit zeros (Ashcraft and Grimes 1989).
    """
    count = len(sizes)
    structure: list[set[int]] = [set() for _ in range(count)]
    for a, b in zip(low.tolist(), high.tolist(), strict=True):
        if a != b:
            structure[a].add(b)
    one_size = len(set(sizes.tolist())) <= 1
    size = sizes.tolist()
    columns = [[j] for j in range(count)]
    width, height, zeros = list(size), [0] * count, [0] * count  # of a supernode: scalars across, below, padded
    merged = [False] * count  # into the supernode of the parent
    children: list[list[int]] = [[] for _ in range(count)]
    parents = [-1] * count
    for j in range(count):
        rows = structure[j]
        for c in children[j]:
            rows |= structure[c]
        rows.discard(j)
        height[j] = tall = len(rows) * size[0] if one_size else sum(size[i] for i in rows)
        for c in sorted(children[j], key=width.__getitem__, reverse=True):
            wide = width[c] + width[j]
            padding = zeros[c] + zeros[j] + width[c] * (width[j] + tall - height[c])
            if padding <= next(share for limit, share in MAY_PAD if wide <= limit) * wide * (wide + tall):
                columns[j] = columns[c] + columns[j]
                width[j], zeros[j], merged[c] = wide, padding, True
        if rows:
            parents[j] = min(rows)
            children[parents[j]].append(j)
    kept = [j for j in range(count) if not merged[j]]
    number = {j: s for s, j in enumerate(kept)}

    def above(j: int) -> int:
        j = parents[j]
        while j >= 0 and merged[j]:
            j = parents[j]
        return number.get(j, -1)

    tree = [above(j) for j in kept]
    order = postorder(tree, [height[j] ** 2 for j in kept])
    place = np.argsort(order).tolist()
    chosen = [kept[s] for s in order]
    above_them = [place[tree[s]] if tree[s] >= 0 else -1 for s in order]
    return [columns[j] for j in chosen], [structure[j] for j in chosen], above_them


def postorder(parents: list[int], left: list[int]) -> list[int]:
    """Nodes of a forest, children before parents by number, so that each follows right after its descendants.

    What a node leaves to its parent, `left` numbers each, then waits only for its siblings; of these, those come first
    that need most beside what they leave (Liu 1986).
    """
    children: list[list[int]] = [[] for _ in parents]
    needed = [0] * len(parents)
    for node, parent in enumerate(parents):
        children[node].sort(key=lambda c: needed[c] - left[c], reverse=True)
        waiting = 0
        for c in children[node]:
            needed[node] = max(needed[node], waiting + needed[c])
            waiting += left[c]
        needed[node] = max(needed[node], waiting + left[node])
        if parent >= 0:
            children[parent].append(node)
    order: list[int] = []
    pending = [node for node, parent in enumerate(parents) if parent < 0]
    while pending:  # parents first, the last child next, and all of it backwards
        order.append(pending.pop())
        pending += children[order[-1]]
    return order[::-1]

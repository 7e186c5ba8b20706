"""Demos: `python -m demos.NAME`, each a page; `python -m demos.research.NAME` for those that train a network."""

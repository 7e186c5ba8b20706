"""Demos that train a part of SLAM: model.py, train.py, figure.py; run by `python -m demos.research.NAME`."""

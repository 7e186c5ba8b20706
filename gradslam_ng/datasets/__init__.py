"""Sequences of RGB-D frames: one loader per file, each a torch Dataset."""

from gradslam_ng.datasets.icl import ICL
from gradslam_ng.datasets.layouts import load
from gradslam_ng.datasets.sequence import FrameError, Sequence
from gradslam_ng.datasets.tum import TUM

__all__ = ["ICL", "TUM", "FrameError", "Sequence", "load"]

"""Sequences of RGB-D frames: one loader per file, each a torch Dataset."""

from gradslam_ng.datasets.azure_kinect import AzureKinect
from gradslam_ng.datasets.bags.bag import Bag
from gradslam_ng.datasets.catalog import CATALOG, data_folder, download
from gradslam_ng.datasets.convert import Conversion, convert
from gradslam_ng.datasets.findings import Finding, RecordingWarning
from gradslam_ng.datasets.folder import Folder
from gradslam_ng.datasets.icl import ICL
from gradslam_ng.datasets.info import info
from gradslam_ng.datasets.klg import Klg
from gradslam_ng.datasets.layouts import load
from gradslam_ng.datasets.polycam import Polycam
from gradslam_ng.datasets.prefetch import prefetch
from gradslam_ng.datasets.record3d import Record3D
from gradslam_ng.datasets.replica import Replica
from gradslam_ng.datasets.samples import Samples
from gradslam_ng.datasets.scannet import ScanNet
from gradslam_ng.datasets.sens import Sens
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.datasets.sevenscenes import SevenScenes
from gradslam_ng.datasets.shards import read_shards, write_shards
from gradslam_ng.datasets.stray import StrayScanner
from gradslam_ng.datasets.transforms import Transforms
from gradslam_ng.datasets.tum import TUM
from gradslam_ng.datasets.validation import validate

__all__ = [
    "CATALOG",
    "ICL",
    "TUM",
    "AzureKinect",
    "Bag",
    "Conversion",
    "Finding",
    "Folder",
    "FrameError",
    "Klg",
    "Polycam",
    "RGBDSequence",
    "Record3D",
    "RecordingWarning",
    "Replica",
    "Samples",
    "ScanNet",
    "Sens",
    "SevenScenes",
    "StrayScanner",
    "Synthetic",
    "Transforms",
    "convert",
    "data_folder",
    "download",
    "info",
    "load",
    "prefetch",
    "read_shards",
    "validate",
    "write_shards",
]


def __getattr__(name: str):
    """`Synthetic`, imported when first asked for: it brings scipy's interpolation along."""
    if name != "Synthetic":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gradslam_ng.datasets.synthetic import Synthetic

    return Synthetic

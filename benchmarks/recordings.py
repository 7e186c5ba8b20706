"""Recordings in the formats of phones, cameras and other programs, byte by byte as these write them.

Samples for `benchmarks.fuzz`, and for the tests of what reads them. Images are given as they are to be read: color
(L, H, W, 3) uint8 and depth (L, h, w), in units of each format, the camera of color where there is one; poses are
(L, 4, 4) float64, camera to world, in our axes.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gradslam_ng.geometry import se3

OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))  # axes of cameras there, in ours
IDENTITY = np.eye(4)
STEP = 33_333  # microseconds between frames


def packed(pixels: np.ndarray, form: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form, **options)
    return data.getvalue()


def write_klg(path: Path, color: np.ndarray, depth: np.ndarray, *, jpeg: bool = True, told: int | None = None) -> Path:
    """A log of ElasticFusion's Logger2, depth in millimeters; told: how many frames it says that it has."""
    data = struct.pack("<i", len(depth) if told is None else told)
    for i, (pixels, units) in enumerate(zip(color, depth, strict=True)):
        images = units.tobytes(), pixels.tobytes()
        if jpeg:  # encoded as if it were blue, green and red
            images = zlib.compress(images[0]), packed(pixels[..., ::-1], "JPEG")
        data += struct.pack("<qii", 5_000_000 + STEP * i, *map(len, images)) + b"".join(images)
    path.write_bytes(data)
    return path


def write_sens(
    path: Path, color: Sequence[np.ndarray], depth: np.ndarray, poses: Tensor, cameras: tuple[Any, Any], *,
    color_kind: int = 1, depth_kind: int = 1, step: int = STEP,
) -> Path:  # fmt: skip
    """A file of ScanNet's SensorData, version 4; cameras: 16 numbers of color, and of depth; kinds as the file has."""
    name = b"StructureSensor"
    data = struct.pack("<IQ", 4, len(name)) + name
    data += struct.pack("<64f", *(x for K in cameras for x in (*K, *IDENTITY.ravel())))
    sizes = color[0].shape[1], color[0].shape[0], depth.shape[2], depth.shape[1]
    data += struct.pack("<2i4IfQ", color_kind, depth_kind, *sizes, 1000.0, len(depth))
    for i, (pixels, units) in enumerate(zip(color, depth, strict=True)):
        first = pixels.tobytes() if color_kind == 0 else packed(pixels, {1: "PNG", 2: "JPEG"}[color_kind])
        second = zlib.compress(units.tobytes()) if depth_kind else units.tobytes()
        times = i * step + 7, i * step
        data += struct.pack("<16f4Q", *poses[i].flatten().tolist(), *times, len(first), len(second)) + first + second
    path.write_bytes(data + struct.pack("<Q", 0))  # no measurements of motion
    return path


def write_r3d(
    path: Path, color: np.ndarray, depth: np.ndarray, poses: Tensor, K: Sequence[float], *, confidence: np.ndarray,
    **more: Any,
) -> Path:  # fmt: skip
    """A recording of Record3D; depth float32, meters; K: nine numbers, column by column; more: of its metadata."""
    import liblzfse

    with zipfile.ZipFile(path, "w") as file:
        for i, pixels in enumerate(color):
            file.writestr(f"rgbd/{i}.jpg", packed(pixels, "JPEG", quality=95, subsampling=0))
            file.writestr(f"rgbd/{i}.depth", liblzfse.compress(depth[i].astype(np.float32).tobytes()))
            file.writestr(f"rgbd/{i}.conf", liblzfse.compress(confidence[i].tobytes()))
        t, q = se3.to_quaternion(poses @ OPENGL)
        sizes = {"w": color.shape[2], "h": color.shape[1], "dw": depth.shape[2], "dh": depth.shape[1]}
        about = {**sizes, "fps": 60, "K": list(K), "poses": torch.cat([q, t], -1).tolist(), **more}
        file.writestr("metadata", json.dumps(about))
    return path


def write_transforms(
    folder: Path, color: np.ndarray, depth: np.ndarray, poses: Tensor, about: Mapping[str, Any]
) -> Path:
    """As NeRFCapture writes it: color is named without its ending, and both lie in one folder; about: all else."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for i, pixels in enumerate(color):
        (folder / "images" / f"{i}.png").write_bytes(packed(pixels, "PNG"))
        (folder / "images" / f"{i}.depth.png").write_bytes(packed(depth[i], "PNG"))
        T = (poses[i] @ OPENGL).tolist()
        frames.append({"file_path": f"images/{i}", "depth_path": f"./images/{i}.depth.png", "transform_matrix": T})
    (folder / "transforms.json").write_text(json.dumps({"frames": frames, **about}))
    return folder


def write_polycam(
    folder: Path, color: np.ndarray, depth: np.ndarray, poses: Tensor, camera: Mapping[str, float], *,
    confidence: np.ndarray,
) -> Path:  # fmt: skip
    """Raw data of Polycam, depth in millimeters; camera: fx, fy, cx, cy. What was not corrected is elsewhere."""
    frames = folder / "keyframes"
    for name in ("images", "cameras", "depth", "confidence", "corrected_cameras", "corrected_images"):
        (frames / name).mkdir(parents=True)
    size = {"width": color.shape[2], "height": color.shape[1], "blur_score": 1.0}
    for i, pixels in enumerate(color):
        name = str(71_033_000_000 + 500_000 * i)
        for place in ("images", "corrected_images"):
            data = packed(pixels, "JPEG", quality=95, subsampling=0)
            (frames / place / f"{name}.jpg").write_bytes(data)
        (frames / "depth" / f"{name}.png").write_bytes(packed(depth[i], "PNG"))
        (frames / "confidence" / f"{name}.png").write_bytes(packed(confidence[i], "PNG"))
        T = poses[i] @ OPENGL
        numbers = {f"t_{row}{column}": float(T[row, column]) for row in range(3) for column in range(4)}
        told = {**camera, **size, **numbers}
        (frames / "corrected_cameras" / f"{name}.json").write_text(json.dumps(told))
        (frames / "cameras" / f"{name}.json").write_text(json.dumps(told | {"t_03": 99.0}))
    return folder


def write_stray(
    folder: Path, color: np.ndarray, depth: np.ndarray, poses: Tensor, K: np.ndarray, *, confidence: np.ndarray
) -> Path:
    """A recording of Stray Scanner, depth in millimeters."""
    import cv2

    for name in ("depth", "confidence"):
        (folder / name).mkdir(parents=True)
    size = color.shape[2], color.shape[1]
    video = cv2.VideoWriter(str(folder / "rgb.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 60, size)
    lines = ["timestamp, frame, x, y, z, qx, qy, qz, qw"]
    t, q = se3.to_quaternion(poses)
    for i, pixels in enumerate(color):
        video.write(np.ascontiguousarray(pixels[..., ::-1]))
        (folder / "depth" / f"{i:06d}.png").write_bytes(packed(depth[i], "PNG"))
        (folder / "confidence" / f"{i:06d}.png").write_bytes(packed(confidence[i], "PNG"))
        lines.append(", ".join([repr(100 + i / 60), f"{i:06d}", *map(repr, [*t[i].tolist(), *q[i].tolist()])]))
    video.release()
    (folder / "odometry.csv").write_text("\n".join(lines) + "\n")
    (folder / "camera_matrix.csv").write_text("\n".join(", ".join(map(str, row)) for row in K.tolist()))
    return folder


def write_mkv(
    path: Path, color: bytes, depth: np.ndarray, calibration: bytes, *, sizes: Sequence[tuple[int, int]],
    titles: Sequence[str] = ("COLOR", "DEPTH"),
) -> Path:  # fmt: skip
    """A recording of Azure Kinect by k4arecorder: one JPEG again and again, and depth in every second frame."""
    import av

    with av.open(str(path), "w", format="matroska", options={"allow_raw_vfw": "1"}) as file:
        if calibration:
            file.add_attachment("calibration.json", "application/octet-stream", calibration)
        streams = file.add_stream("mjpeg", rate=60), file.add_stream("rawvideo", rate=60)
        for stream, title, (height, width), form in zip(streams, titles, sizes, ("yuvj420p", "gray16be"), strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, form
            stream.metadata["title"] = title
        streams[1].codec_context.codec_tag = "b16g"
        for i in range(2 * len(depth)):
            images = (color,) if i % 2 else (color, depth[i // 2].astype(">u2").tobytes())
            for stream, data in zip(streams, images, strict=False):
                packet = av.Packet(data)
                packet.stream, packet.pts, packet.dts, packet.time_base = stream, i, i, Fraction(1, 60)
                packet.is_keyframe = True
                file.mux(packet)
    return path

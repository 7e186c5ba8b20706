"""Small recordings, camera files and saved files of every kind, to be damaged; see `benchmarks.fuzz`."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

import gradslam_ng as gs
from benchmarks import recordings
from benchmarks.bags import BagWriter
from gradslam_ng import cli, datasets
from gradslam_ng.commands.run_folder import STATE
from gradslam_ng.datasets.convert import convert
from gradslam_ng.datasets.export import write_tum
from gradslam_ng.geometry import se3
from gradslam_ng.meshing import marching_cubes

FRAMES, SIZE = 4, (48, 64)
AZURE_SIZE = (288, 320)
CAMERAS = {  # forms of a file given as --camera
    "intrinsics.json": '{"fx": 50, "fy": 50, "cx": 31.5, "cy": 23.5, "width": 64, "height": 48, '
    '"distortion_model": "OPENCV", "distortion": [0.01, 0, 0, 0]}',
    "intrinsics.txt": "50 0 31.5\n0 50 23.5\n0 0 1\n",
    "cameras.txt": "# COLMAP\n1 OPENCV 64 48 50 50 32 24 0.01 0 0 0\n",
    "camera.yaml": "camera_matrix: {rows: 3, cols: 3, data: [50, 0, 31.5, 0, 50, 23.5, 0, 0, 1]}\n"
    "image_width: 64\nimage_height: 48\ndistortion_model: plumb_bob\n"
    "distortion_coefficients: {rows: 1, cols: 5, data: [0.01, 0, 0, 0, 0]}\n",
    "settings.yaml": "%YAML:1.0\nCamera.fx: 50.0\nCamera.fy: 50.0\nCamera.cx: 31.5\nCamera.cy: 23.5\nCamera.k1: 0.01\n",
}


def write_samples(folder: Path) -> dict[str, Path]:
    """One of each kind, by name: files and folders."""
    sequence = datasets.Synthetic("living_room", frames=FRAMES, size=SIZE, noise="kinect")
    frames = gs.RGBDFrames.stack([sequence[i] for i in range(FRAMES)])
    seen = SimpleNamespace(
        color=(frames.color * 255).round().to(torch.uint8).numpy(),
        depth=(frames.depth[..., 0] * 1000).round().numpy().astype(np.uint16),
        poses=sequence.T_wc.double(),
        K=sequence.K.double().numpy(),
        confidence=np.full((FRAMES, *SIZE), 2, np.uint8),
    )
    found = {"tum": write_tum(sequence, folder / "tum", mesh=False), "folder": folder / "folder"}
    convert(sequence, folder / "folder", "folder")
    found |= _phones(folder, seen) | _logs(folder, seen)
    for kind in ("ros1", "mcap", "db3"):
        found[kind] = _bag(folder / kind, kind, seen)
    for suffix in ("zip", "tar.gz"):
        found[suffix] = _archive(folder / suffix, found["tum"], suffix)
    for name, text in CAMERAS.items():
        (folder / f"camera {name}").mkdir()
        (folder / f"camera {name}" / name).write_text(text)
        found[f"camera {name}"] = folder / f"camera {name}" / name
    return found | _run(folder, found["tum"]) | _saved(folder, sequence, frames)


def _phones(folder: Path, seen: SimpleNamespace) -> dict[str, Path]:
    fx, fy, cx, cy = (float(seen.K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    images, poses = (seen.color, seen.depth), seen.poses
    about = {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": SIZE[1], "h": SIZE[0], "integer_depth_scale": 0.001}
    camera = {"fx": fx, "fy": fy, "cx": cx, "cy": cy}
    level = {"confidence": seen.confidence}
    scan = folder / "r3d"
    scan.mkdir()
    meters = seen.depth.astype(np.float32) / 1000
    return {
        "transforms": recordings.write_transforms(folder / "transforms", *images, poses, about),
        "polycam": recordings.write_polycam(folder / "polycam", *images, poses, camera, **level),
        "stray": recordings.write_stray(folder / "stray", *images, poses, seen.K, **level),
        "r3d": recordings.write_r3d(scan / "scan.r3d", seen.color, meters, poses, seen.K.T.ravel().tolist(), **level),
    }


def _logs(folder: Path, seen: SimpleNamespace) -> dict[str, Path]:
    for name in ("klg", "sens", "mkv"):
        (folder / name).mkdir()
    camera = " ".join(str(float(seen.K[i])) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    (folder / "klg" / "calibration.txt").write_text(f"{camera}\n")
    K = np.eye(4)
    K[:3, :3] = seen.K
    kinds = {"color_kind": 2}
    jpeg = recordings.packed(np.zeros((720, 1280, 3), np.uint8), "JPEG")
    told = json.dumps({"CalibrationInformation": {"Cameras": [_azure("D0", 0.49), _azure("PV0", 0.64)]}}).encode()
    depth = np.full((FRAMES, *AZURE_SIZE), 1500, np.uint16)
    sizes = ((720, 1280), AZURE_SIZE)
    return {
        "klg": recordings.write_klg(folder / "klg" / "log.klg", seen.color, seen.depth),
        "sens": recordings.write_sens(
            folder / "sens" / "scene.sens", seen.color, seen.depth, seen.poses, (K.ravel(), K.ravel()), **kinds
        ),
        "mkv": recordings.write_mkv(folder / "mkv" / "room.mkv", jpeg, depth, told, sizes=sizes),
    }


def _azure(name: str, focal: float) -> dict:
    """A camera of Azure Kinect."""
    parameters = [0.5, 0.5, focal, focal, *[0.0] * 10]
    model = {"ModelType": "CALIBRATION_LensDistortionModelBrownConrady", "ModelParameters": parameters}
    place = {"Rotation": np.eye(3).ravel().tolist(), "Translation": [0, 0, 0]}
    return {"Location": f"CALIBRATION_CameraLocation{name}", "Intrinsics": model, "Rt": place}


def _bag(folder: Path, kind: str, seen: SimpleNamespace) -> Path:
    folder.mkdir()
    path = folder / ("log.bag" if kind == "ros1" else "log")
    with BagWriter(path, kind=kind) as bag:
        for i in range(FRAMES):
            time = (1000 + i) * 10**9
            bag.info("/camera/color/camera_info", time, "camera", SIZE, float(seen.K[0, 0]))
            bag.image("/camera/color/image", seen.color[i], "rgb8", time, "camera")
            bag.image("/camera/depth/image", seen.depth[i], "16UC1", time, "camera")
    return path if kind == "ros1" else next(path.glob(f"*.{kind}"))


def _archive(folder: Path, source: Path, suffix: str) -> Path:
    folder.mkdir()
    path = folder / f"recording.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for part in sorted(source.rglob("*")):
                file.write(part, f"recording/{part.relative_to(source)}")
    else:
        with tarfile.open(path, "w:gz") as file:
            file.add(source, "recording")
    return path


def _run(folder: Path, source: Path) -> dict[str, Path]:
    """What `gradslam-ng run` leaves, once for each command that reads it, and the state in it."""
    out = folder / "run"
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main(["run", str(source), "--out", str(out), "--no-compile", "--save-every", "0"])
    found = {f"{command} DIR": out for command in ("resume", "view", "evaluate", "mesh", "join")}
    (folder / "state").mkdir()
    shutil.copy(out / STATE, folder / "state" / STATE)
    return found | {"state": folder / "state"}


def _saved(folder: Path, sequence: datasets.Synthetic, frames: gs.RGBDFrames) -> dict[str, Path]:
    """Maps, meshes, volumes, graphs, trajectories and shards."""
    names = ("surfels", "mesh", "volume", "g2o", "trajectory")
    for name in names:
        (folder / name).mkdir()
    with torch.no_grad():
        surfels, _ = gs.PointFusion("ground-truth", factor=2)(frames)
        volume, _ = gs.KinectFusion("ground-truth", factor=2, voxel_size=0.08, truncation=0.3)(frames)
    surfels.save(folder / "surfels" / "map.ply")
    marching_cubes(volume).save(folder / "mesh" / "mesh.ply")
    volume.save(folder / "volume" / "volume.npz")
    t, q = se3.to_quaternion(sequence.T_wc.double())
    lines = [" ".join(map(str, ["VERTEX_SE3:QUAT", i, *t[i].tolist(), *q[i].tolist()])) for i in range(FRAMES)]
    upper = [float(i == j) for i in range(6) for j in range(i, 6)]
    step = [0.01, 0, 0, 0, 0, 0, 1]
    lines += [" ".join(map(str, ["EDGE_SE3:QUAT", i, i + 1, *step, *upper])) for i in range(FRAMES - 1)]
    (folder / "g2o" / "graph.g2o").write_text("\n".join(lines) + "\n")
    assert sequence.ground_truth is not None
    sequence.ground_truth.save(folder / "trajectory" / "trajectory.txt")
    datasets.write_shards([frames, frames], folder / "shards")
    return {name: folder / name for name in (*names, "shards")}

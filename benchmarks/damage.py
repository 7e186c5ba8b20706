"""Small recordings and saved files of every format, and ways to damage them; see `benchmarks.fuzz`."""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import gradslam_ng as gs
from gradslam_ng import datasets
from gradslam_ng.datasets.export import write_tum
from gradslam_ng.geometry import se3
from gradslam_ng.meshing import marching_cubes
from gradslam_ng.slam.saved_run import StateWriter

FRAMES = 4
HUGE = (
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"99999999999",
    b"1e308",
    b"-1",
    b"nan",
    b"../../x",
    b"/x",
)


def write_samples(folder: Path) -> dict[str, Path]:
    """One of each format, by name: files and folders."""
    sequence = datasets.Synthetic("living_room", frames=FRAMES, size=(48, 64), noise="kinect")
    frames = gs.RGBDFrames.stack([sequence[i] for i in range(FRAMES)])
    color = (frames.color * 255).round().to(torch.uint8).numpy()
    depth = (frames.depth[..., 0] * 1000).round().numpy().astype(np.uint16)
    poses, K = sequence.T_wc.double(), sequence.K.double()
    found = {"tum": write_tum(sequence, folder / "tum", mesh=False)}
    found["transforms"] = _transforms(folder / "transforms", color, depth, poses, K)
    found["klg"] = _klg(folder / "klg", color, depth, K)
    found["sens"] = _sens(folder / "sens", color, depth, poses, K)
    found["r3d"] = _r3d(folder / "r3d", color, depth, poses, K)
    for kind, suffix in (("ros1", "bag"), ("ros2", "mcap")):
        found[kind] = _bag(folder / kind, suffix, color, depth, K)
    for suffix in ("zip", "tar.gz"):
        found[suffix] = _archive(folder / suffix, found["tum"], suffix)
    return found | _saved(folder, sequence, frames)


def _saved(folder: Path, sequence: datasets.Synthetic, frames: gs.RGBDFrames) -> dict[str, Path]:
    """What runs leave: maps, meshes, volumes, states, graphs."""
    for name in ("surfels", "mesh", "volume", "state", "g2o", "trajectory"):
        (folder / name).mkdir()
    with torch.no_grad():
        surfels, _ = gs.PointFusion("ground-truth", factor=2)(frames)
        volume, _ = gs.KinectFusion("ground-truth", factor=2, voxel_size=0.08, truncation=0.3)(frames)
    surfels.save(folder / "surfels" / "map.ply")
    marching_cubes(volume).save(folder / "mesh" / "mesh.ply")
    volume.save(folder / "volume" / "volume.npz")
    gs.ICPOdometry().run(sequence, state_writer=StateWriter(folder / "state" / "state.safetensors"), compile=False)
    t, q = se3.to_quaternion(sequence.T_wc.double())
    lines = [" ".join(map(str, ["VERTEX_SE3:QUAT", i, *t[i].tolist(), *q[i].tolist()])) for i in range(FRAMES)]
    upper = [float(i == j) for i in range(6) for j in range(i, 6)]
    step = [0.01, 0, 0, 0, 0, 0, 1]
    lines += [" ".join(map(str, ["EDGE_SE3:QUAT", i, i + 1, *step, *upper])) for i in range(FRAMES - 1)]
    (folder / "g2o" / "graph.g2o").write_text("\n".join(lines) + "\n")
    assert sequence.ground_truth is not None
    sequence.ground_truth.save(folder / "trajectory" / "trajectory.txt")
    return {name: folder / name for name in ("surfels", "mesh", "volume", "state", "g2o", "trajectory")}


def _packed(pixels: np.ndarray, form: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form)
    return data.getvalue()


def _transforms(folder: Path, color: np.ndarray, depth: np.ndarray, poses: torch.Tensor, K: torch.Tensor) -> Path:
    folder.mkdir()
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    frames = []
    for i in range(FRAMES):
        (folder / f"{i}.png").write_bytes(_packed(color[i], "PNG"))
        (folder / f"depth{i}.png").write_bytes(_packed(depth[i], "PNG"))
        T = (poses[i] @ flip).tolist()
        frames.append({"file_path": f"{i}.png", "depth_file_path": f"depth{i}.png", "transform_matrix": T})
    camera = {"fl_x": float(K[0, 0]), "fl_y": float(K[1, 1]), "cx": float(K[0, 2]), "cy": float(K[1, 2])}
    size = {"w": color.shape[2], "h": color.shape[1]}
    (folder / "transforms.json").write_text(json.dumps({**camera, **size, "frames": frames}))
    return folder


def _klg(folder: Path, color: np.ndarray, depth: np.ndarray, K: torch.Tensor) -> Path:
    folder.mkdir()
    data = struct.pack("<i", FRAMES)
    for i in range(FRAMES):
        images = zlib.compress(depth[i].tobytes()), _packed(color[i][..., ::-1], "JPEG")
        data += struct.pack("<qii", 33_333 * i, *map(len, images)) + b"".join(images)
    (folder / "log.klg").write_bytes(data)
    (folder / "calibration.txt").write_text(" ".join(str(float(K[i])) for i in ((0, 0), (1, 1), (0, 2), (1, 2))) + "\n")
    return folder / "log.klg"


def _sens(folder: Path, color: np.ndarray, depth: np.ndarray, poses: torch.Tensor, K: torch.Tensor) -> Path:
    folder.mkdir()
    K4, eye = torch.eye(4, dtype=torch.float64), torch.eye(4).flatten().tolist()
    K4[:3, :3] = K
    data = struct.pack("<IQ", 4, 4) + b"test"
    data += struct.pack("<64f", *K4.flatten().tolist(), *eye, *K4.flatten().tolist(), *eye)
    height, width = depth.shape[1:]
    data += struct.pack("<2i4IfQ", 2, 1, width, height, width, height, 1000.0, FRAMES)
    for i in range(FRAMES):
        images = _packed(color[i], "JPEG"), zlib.compress(depth[i].tobytes())
        data += struct.pack("<16f4Q", *poses[i].flatten().tolist(), 33_333 * i, 33_333 * i, *map(len, images))
        data += b"".join(images)
    (folder / "scene.sens").write_bytes(data + struct.pack("<Q", 0))
    return folder / "scene.sens"


def _r3d(folder: Path, color: np.ndarray, depth: np.ndarray, poses: torch.Tensor, K: torch.Tensor) -> Path:
    import liblzfse

    folder.mkdir()
    height, width = depth.shape[1:]
    with zipfile.ZipFile(folder / "scan.r3d", "w") as file:
        for i in range(FRAMES):
            file.writestr(f"rgbd/{i}.jpg", _packed(color[i], "JPEG"))
            file.writestr(f"rgbd/{i}.depth", liblzfse.compress((depth[i] / 1000).astype(np.float32).tobytes()))
            file.writestr(f"rgbd/{i}.conf", liblzfse.compress(np.full((height, width), 2, np.uint8).tobytes()))
        t, q = se3.to_quaternion(poses)
        about = {"w": width, "h": height, "dw": width, "dh": height, "fps": 60, "K": K.T.flatten().tolist()}
        file.writestr("metadata", json.dumps(about | {"poses": torch.cat([q, t], -1).tolist()}))
    return folder / "scan.r3d"


def _bag(folder: Path, suffix: str, color: np.ndarray, depth: np.ndarray, K: torch.Tensor) -> Path:
    """A bag of ROS 1, or of ROS 2 as one file of MCAP."""
    from rosbags import rosbag1, rosbag2
    from rosbags.typesys import Stores, get_typestore

    folder.mkdir()
    first = suffix == "bag"
    store = get_typestore(Stores.ROS1_NOETIC if first else Stores.ROS2_HUMBLE)
    if first:
        writer = rosbag1.Writer(folder / "log.bag")
    else:
        writer = rosbag2.Writer(folder / "log", version=9, storage_plugin=rosbag2.StoragePlugin.MCAP)
    serialize = store.serialize_ros1 if first else store.serialize_cdr
    types, height, width = store.types, depth.shape[1], depth.shape[2]
    with writer:
        topics = {name: _topic(writer, store, name) for name in ("color/image", "depth/image", "color/camera_info")}
        for i in range(FRAMES):
            stamp = types["builtin_interfaces/msg/Time"](sec=1000 + i, nanosec=0)
            header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera", **({"seq": 0} if first else {}))
            for name, pixels, encoding in (("color/image", color[i], "rgb8"), ("depth/image", depth[i], "16UC1")):
                rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
                values = {"height": height, "width": width, "encoding": encoding, "is_bigendian": 0}
                message = types["sensor_msgs/msg/Image"](header=header, **values, step=rows.shape[1], data=rows.ravel())
                writer.write(topics[name], (1000 + i) * 10**9, serialize(message, "sensor_msgs/msg/Image"))
            info = _camera_info(types, header, K, (height, width), first)
            writer.write(topics["color/camera_info"], (1000 + i) * 10**9, serialize(info, "sensor_msgs/msg/CameraInfo"))
    return folder / "log.bag" if first else next((folder / "log").glob("*.mcap"))


def _topic(writer, store, name: str):
    kind = "CameraInfo" if name.endswith("info") else "Image"
    return writer.add_connection(f"/camera/{name}", f"sensor_msgs/msg/{kind}", typestore=store)


def _camera_info(types, header, K: torch.Tensor, size: tuple[int, int], first: bool):
    values = {"d": np.zeros(5), "k": K.flatten().numpy(), "r": np.eye(3).ravel(), "p": np.eye(3, 4).ravel()}
    values["p"] = np.hstack([K.numpy(), np.zeros((3, 1))]).ravel()
    values = {name.upper() if first else name: value for name, value in values.items()}
    roi = types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return types["sensor_msgs/msg/CameraInfo"](
        header=header, height=size[0], width=size[1], distortion_model="plumb_bob", **values, binning_x=0, binning_y=0,
        roi=roi,
    )  # fmt: skip


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


def flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 20)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def empty(data: bytearray, chance: random.Random) -> None:
    data.clear()


def swap(data: bytearray, chance: random.Random) -> None:
    """Two pieces exchanged."""
    size = chance.randint(1, max(1, len(data) // 4))
    a, b = (chance.randrange(max(1, len(data) - size)) for _ in range(2))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def insert_huge(data: bytearray, chance: random.Random) -> None:
    """A huge number or an odd name, near the beginning as often as elsewhere."""
    where = chance.randrange(min(len(data), 400) if chance.random() < 0.5 else len(data))
    what = chance.choice(HUGE)
    data[where : where + len(what)] = what


def double(data: bytearray, chance: random.Random) -> None:
    data.extend(bytes(data[: chance.randrange(len(data))]))


WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (flip_bits, cut, empty, swap, insert_huge, double)


def damaged(sample: Path, folder: Path, chance: random.Random) -> tuple[Path, str]:
    """A copy of a sample with one to three of its files damaged, and how."""
    source = sample if sample.is_dir() else sample.parent
    copy = folder / "recording"
    shutil.copytree(source, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    told = []
    for path in chance.sample(files, min(len(files), chance.randint(1, 3))):
        data, way = bytearray(path.read_bytes()), chance.choice(WAYS)
        if not data:
            continue
        if chance.random() < 0.05:
            path.unlink()
            told.append(f"{path.name}: removed")
            continue
        way(data, chance)
        path.write_bytes(data)
        told.append(f"{path.name}: {way.__name__}")
    return (copy if sample.is_dir() else copy / sample.name), ", ".join(told)

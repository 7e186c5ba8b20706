"""Triangle meshes, saved as PLY, binary glTF, OBJ and STL."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gradslam_ng.io.atomic import whole_file, whole_files
from gradslam_ng.io.open3d_import import import_open3d
from gradslam_ng.io.ply import write_ply
from gradslam_ng.structures.origin import world_columns

_FLOAT, _UINT, _UBYTE = 5126, 5125, 5121  # component types of glTF 2.0
_LINEAR = 9729
_VERTICES, _INDICES = 34962, 34963  # what a buffer view is for


@dataclass(frozen=True, eq=False)
class Texture:
    """An image on a mesh."""

    image: Tensor  # (H, W, 3) uint8
    uv: Tensor  # (V, 2), where in it each vertex lies, from its upper left corner (0, 0) to the lower right one (1, 1)

    def png(self) -> bytes:
        """The image as a file."""
        data = BytesIO()
        Image.fromarray(self.image.cpu().numpy()).save(data, "PNG")
        return data.getvalue()


@dataclass(frozen=True, eq=False)
class Mesh:
    """A surface of triangles, their corners counterclockwise as seen from outside."""

    vertices: Tensor  # (V, 3), meters
    faces: Tensor  # (F, 3) int64
    normals: Tensor  # (V, 3), unit
    colors: Tensor  # (V, 3), in [0, 1]
    weights: Tensor  # (V,), how much was measured there
    origin: Tensor | None = None  # (3,) float64, meters, where in the world coordinates begin; None: at its origin
    texture: Texture | None = None  # which .glb and .obj are written with, instead of the colors of the vertices

    def __repr__(self) -> str:
        """In one line; a mesh prints pages otherwise."""
        return f"Mesh({len(self.faces)} triangles, {len(self.vertices)} vertices)"

    def save(self, path: Path | str, up: Tensor | None = None) -> None:
        """As PLY, binary glTF 2.0, OBJ (with colors behind the positions) or binary STL (without), as the name ends; in
        coordinates of the world, but for glTF, which stands on its feet as that format has it.

        Args:
            up: (3,) unit, the upward direction of the world; default: -y, that of a camera that is held level.

        Raises:
            ValueError: another ending.
            ImportError: .obj or .stl without Open3D.
        """
        match Path(path).suffix.lower():
            case ".ply":
                self._save_ply(path)
            case ".glb":
                self._save_glb(path, _gltf_axes(np.array([0.0, -1, 0]) if up is None else up.detach().cpu().numpy()))
            case ".obj" | ".stl":
                self._save_with_open3d(path)
            case other:
                raise ValueError(f"{path}: expected a name that ends in .ply, .glb, .obj or .stl, got {other!r}")

    def _save_with_open3d(self, path: Path | str) -> None:
        o3d = import_open3d()
        vector = o3d.utility.Vector3dVector
        points = self.vertices if self.origin is None else self.vertices.double() + self.origin
        mesh = o3d.geometry.TriangleMesh(
            vector(points.detach().cpu().double().numpy()), o3d.utility.Vector3iVector(self.faces.cpu().int().numpy())
        )
        mesh.vertex_colors = vector(self._bytes().cpu().double().numpy() / 255)
        mesh.vertex_normals = vector(self.normals.detach().cpu().double().numpy())
        if Path(path).suffix.lower() == ".stl":
            mesh.compute_triangle_normals()
        if self.texture is not None:
            uv = self.texture.uv[self.faces.flatten().to(self.texture.uv.device)].double()
            mesh.triangle_uvs = o3d.utility.Vector2dVector(uv.cpu().numpy())  # the image is turned over when written
            mesh.triangle_material_ids = o3d.utility.IntVector([0] * len(self.faces))
            mesh.textures = [o3d.geometry.Image(np.ascontiguousarray(self.texture.image.cpu().numpy()))]
        with whole_files(path) as part:
            if not o3d.io.write_triangle_mesh(os.fspath(part), mesh):
                raise OSError(f"{path}: cannot be written")

    def _save_ply(self, path: Path | str) -> None:
        columns, comments = world_columns(self.vertices, self.origin)
        columns |= {f"n{name}": self.normals[:, i].float() for i, name in enumerate("xyz")}
        write_ply(
            path,
            columns | dict(zip(("red", "green", "blue"), self._bytes().unbind(-1), strict=True)),
            self.faces,
            comments,
        )

    def _bytes(self) -> Tensor:
        return (self.colors.detach().clamp(0, 1) * 255).round().to(torch.uint8)

    def _save_glb(self, path: Path | str, R_gw: np.ndarray) -> None:  # R_gw (3, 3)
        """Axes turned to glTF's x right, y up, z backward; colors made linear, as the format has them."""
        positions, normals = (
            (x.detach().cpu().double().numpy() @ R_gw.T).astype(np.float32) for x in (self.vertices, self.normals)
        )
        arrays = {"POSITION": positions, "NORMAL": normals}
        if self.texture is None:
            arrays["COLOR_0"] = self._linear_colors()
        else:
            arrays["TEXCOORD_0"] = self.texture.uv.float().cpu().numpy()
        indices = self.faces.detach().cpu().numpy().astype(np.uint32).reshape(-1)

        body, views, accessors = b"", [], []
        for name, array in (arrays | {"indices": indices}).items():
            kind = {np.float32: _FLOAT, np.uint32: _UINT, np.uint8: _UBYTE}[array.dtype.type]
            target = _INDICES if name == "indices" else _VERTICES
            views.append({"buffer": 0, "byteOffset": len(body), "byteLength": array.nbytes, "target": target})
            shape = "SCALAR" if array.ndim == 1 else f"VEC{array.shape[1]}"
            accessor = {"bufferView": len(views) - 1, "componentType": kind, "count": len(array), "type": shape}
            if name == "COLOR_0":
                accessor["normalized"] = True
            if name == "POSITION" and len(array):
                accessor |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
            accessors.append(accessor)
            body += array.tobytes()
        primitive = {"attributes": {name: i for i, name in enumerate(arrays)}, "indices": len(arrays), "mode": 4}
        document = {"asset": {"version": "2.0", "generator": "gradslam_ng"}, "scene": 0, "scenes": [{}]}
        if len(indices):  # the format knows no empty arrays
            look: dict[str, Any] = {"metallicFactor": 0, "roughnessFactor": 1}
            if self.texture is not None:
                data = self.texture.png()
                views.append({"buffer": 0, "byteOffset": len(body), "byteLength": len(data)})
                body += data
                look["baseColorTexture"] = {"index": 0}
                document |= {
                    "images": [{"bufferView": len(views) - 1, "mimeType": "image/png"}],
                    "samplers": [{"magFilter": _LINEAR, "minFilter": _LINEAR}],  # smaller images would mix triangles
                    "textures": [{"sampler": 0, "source": 0}],
                }
            material = {"pbrMetallicRoughness": look, "doubleSided": True}
            document |= {
                "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0} | self._place(R_gw)], "materials": [material],
                "meshes": [{"primitives": [primitive | {"material": 0}]}], "buffers": [{"byteLength": len(body)}],
                "bufferViews": views, "accessors": accessors,
            }  # fmt: skip
        _write_glb(path, document, body if len(indices) else b"")

    def _linear_colors(self) -> np.ndarray:
        """(V, 4) uint8: linear, opaque."""
        rgba = np.full((len(self.colors), 4), 255, np.uint8)
        rgba[:, :3] = np.round(255 * srgb_to_linear(self.colors.detach().cpu().double().clamp(0, 1).numpy()))
        return rgba

    def _place(self, R_gw: np.ndarray) -> dict[str, list[float]]:
        """Where a node of glTF, whose coordinates are float32, lies: the origin, unless it is the world's."""
        if self.origin is None or not bool(self.origin.any()):
            return {}
        return {"translation": (R_gw @ self.origin.cpu().double().numpy()).tolist()}


def srgb_to_linear(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as images have them, in proportion to light (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _write_glb(path: Path | str, document: dict[str, Any], body: bytes) -> None:
    """Write binary glTF: a document, and what its buffer holds, if it has one."""
    text = json.dumps(document, separators=(",", ":")).encode()
    chunks = [(b"JSON", text + b" " * (-len(text) % 4)), (b"BIN\0", body + b"\0" * (-len(body) % 4))]
    chunks = chunks if body else chunks[:1]
    with whole_file(path) as part, part.open("wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 12 + sum(8 + len(data) for _, data in chunks)))
        for tag, data in chunks:
            file.write(struct.pack("<I4s", len(data), tag) + data)


def _gltf_axes(up: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) of the world to glTF's x right, y up, z backward; forward is the world's z, or where that is up
    or down its y, brought level. up (3,), upwards in the world."""
    up = up / np.linalg.norm(up)
    forward = np.array([0.0, 0, 1]) if abs(up[2]) < 0.7 else np.array([0.0, 1, 0])
    backward = -(forward - (forward @ up) * up)
    backward /= np.linalg.norm(backward)
    return np.stack([np.cross(up, backward), up, backward])

"""Which topics of a bag are its color and its depth, and which camera belongs to them."""

from __future__ import annotations

import re

from gradslam_ng.datasets.bags.cameras import camera_of_info, camera_of_text
from gradslam_ng.datasets.bags.index import INFO, BagIndex, Image
from gradslam_ng.datasets.bags.pictures import is_color_encoding, is_depth_encoding
from gradslam_ng.datasets.camera import Camera

NOT_COLOR = re.compile(r"infra|/ir\b|/ir_|_ir/|fisheye|confidence|disparity|mask|label|theora", re.IGNORECASE)
NOT_DEPTH = re.compile(r"infra|/ir/|confidence|disparity|amplitude|label", re.IGNORECASE)
REGISTERED = re.compile(r"align|registered|depth_(?:to|in)_(?:rgb|color)|rgbd", re.IGNORECASE)
RECTIFIED = re.compile(r"image_rect|rectified")
TRANSPORTS = ("compressed", "compressedDepth", "theora")


def choose_topics(found: BagIndex, given: str | None) -> tuple[Image, Image]:
    """The color and the depth images, those of `COLOR,DEPTH` if given, else the best guess.

    Raises:
        ValueError: no such topic, or none that holds color, or depth; lists what there is.
    """
    there = "; ".join(f"{name} ({image.encoding}, {len(image.times)})" for name, image in found.images.items())
    there = (
        f"images in it: {there}" if there else f"no images in it, but {', '.join(sorted(found.topics)) or 'nothing'}"
    )
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        if len(names) != 2 or any(name not in found.images for name in names):
            raise ValueError(f"topics: expected COLOR,DEPTH of the bag, got {given!r}; {there}")
        return found.images[names[0]], found.images[names[1]]
    pairs = [
        (_score(color, depth), color, depth)
        for color in found.images.values()
        if is_color_encoding(color.encoding) and not NOT_COLOR.search(color.topic.name)
        for depth in found.images.values()
        if is_depth_encoding(depth.encoding) and not NOT_DEPTH.search(depth.topic.name)
    ]
    if not pairs:
        raise ValueError(f"topics: expected a topic of color and one of depth, give them as COLOR,DEPTH; {there}")
    _, color, depth = max(pairs, key=lambda pair: pair[0])
    return color, depth


def _score(color: Image, depth: Image) -> tuple[float, ...]:
    """What makes a pair of topics the likelier one, by weight."""
    name = color.topic.name
    return (
        len(common_path(name, depth.topic.name)),  # of one camera
        is_registered(depth),
        -abs(len(color.times) - len(depth.times)) / max(len(color.times), len(depth.times), 1) > -0.5,
        re.search(r"color|rgb", name, re.IGNORECASE) is not None,
        not color.encoding.startswith(("mono", "8UC1")),
        color.topic.kind.endswith("/Image") + depth.topic.kind.endswith("/Image"),
        RECTIFIED.search(name) is not None,
        -len(name) - len(depth.topic.name),
    )


def is_registered(depth: Image) -> bool:
    """Whether a topic's name says that its depth is in the pixels of color."""
    return REGISTERED.search(depth.topic.name) is not None


def common_path(a: str, b: str) -> list[str]:
    """The parts of two topics' names that are the same, from the front."""
    found = []
    for x, y in zip(a.strip("/").split("/"), b.strip("/").split("/"), strict=False):
        if x != y:
            break
        found.append(x)
    return found


def find_camera(found: BagIndex, image: Image) -> Camera | None:
    """The camera of a topic: the CameraInfo beside it, None where there is none.

    Raises:
        ValueError: one whose lens cannot be undone.
    """
    name = image.topic.name
    ranked = sorted(found.infos, key=lambda info: _nearness(found, info, image), reverse=True)
    for info in ranked:
        if _nearness(found, info, image) <= (0,):
            break
        message = found.infos[info]
        if isinstance(message, str):
            return camera_of_text(message, info)
        camera = camera_of_info(message, info, RECTIFIED.search(name) is not None)
        if camera is not None:
            return camera
    return None


def _nearness(found: BagIndex, info: str, image: Image) -> tuple[int, ...]:
    """How near a CameraInfo is to a topic of images: parts of the name that are shared; 0 where it is of another."""
    parts = image.topic.name.strip("/").split("/")
    parts = parts[:-1] if parts[-1] in TRANSPORTS else parts
    space = parts[:-2] if parts[-2:] == ["image", "data"] else parts[:-1]  # RealSense's own bags have one level more
    shared = len(common_path(info, "/".join(space)))
    if shared == len(space) and (shared or info.strip("/").count("/") == 0):
        return (shared + 2, found.topics.get(info) != INFO)  # RealSense's text tells more of a lens than a CameraInfo
    message = found.infos[info]
    is_same = not isinstance(message, str) and image.frame and message.header.frame_id == image.frame
    return (1 if is_same else 0, 0)

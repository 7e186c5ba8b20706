"""Public sequences by name, and how to fetch them. None is shipped with this project; each has its own license."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gradslam_ng.datasets.archive import fetch, sequence_folder, sha256, unpack
from gradslam_ng.io.similar_names import meant
from gradslam_ng.io.text import read_text

TUM_SITE = "https://cvg.cit.tum.de/rgbd/dataset"
ICL_SITE = "https://www.doc.ic.ac.uk/~ahanda"
SEVEN_SCENES_SITE = "https://download.microsoft.com/download/2/8/5/28564B23-0828-408F-8631-23B1EFF1DAC8"
REPLICA_SITE = "https://cvg-data.inf.ethz.ch/nice-slam/data"

TUM_SEQUENCES = {
    "1": "360 desk desk2 floor plant room rpy teddy xyz",
    "2": "360_hemisphere 360_kidnap coke desk desk_with_person dishes flowerbouquet large_no_loop large_with_loop "
    "metallic_sphere pioneer_360 pioneer_slam pioneer_slam2 pioneer_slam3 rpy xyz",
    "3": "cabinet large_cabinet long_office_household nostructure_notexture_far nostructure_texture_far "
    "nostructure_texture_near_withloop structure_notexture_far structure_notexture_near structure_texture_far "
    "structure_texture_near sitting_halfsphere sitting_rpy sitting_static sitting_xyz teddy walking_halfsphere "
    "walking_rpy walking_static walking_xyz",
}


@dataclass(frozen=True)
class Entry:
    """A public sequence, or a set of them in one archive."""

    name: str  # such as tum/fr1_desk
    url: str
    license: str
    camera: str
    sha256: str | None = None  # of the archive, where known


def _catalog() -> dict[str, Entry]:
    entries = []
    for number, names in TUM_SEQUENCES.items():
        for name in names.split():
            url = f"{TUM_SITE}/freiburg{number}/rgbd_dataset_freiburg{number}_{name}.tgz"
            camera = "Asus Xtion, 640x480" if number == "3" else "Kinect, 640x480"
            entries.append(Entry(f"tum/fr{number}_{name}", url, "CC BY 4.0", f"{camera}, freiburg{number}"))
    camera = "rendered, 640x480, fx 481.2 fy 480"
    for kt in range(4):
        for name, archive in (
            (f"icl/living_room_kt{kt}", f"living_room_traj{kt}_frei_png"),
            (f"icl/living_room_kt{kt}_noise", f"living_room_traj{kt}n_frei_png"),
            (f"icl/office_kt{kt}", f"traj{kt}_frei_png"),
            (f"icl/office_kt{kt}_noise", f"traj{kt}n_frei_png"),
        ):
            entries.append(Entry(name, f"{ICL_SITE}/{archive}.tar.gz", "CC BY 3.0", camera))
    for scene in ("chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs"):
        url = f"{SEVEN_SCENES_SITE}/{scene}.zip"
        license = "Microsoft Research, non-commercial"
        entries.append(Entry(f"sevenscenes/{scene}", url, license, "Kinect, 640x480, f 585"))
    license = "Replica Research Terms, non-commercial"
    entries.append(Entry("replica/all", f"{REPLICA_SITE}/Replica.zip", license, "rendered, 1200x680, f 600"))
    return {entry.name: entry for entry in entries}


CATALOG = _catalog()


def data_folder() -> Path:
    """The folder of recordings that the environment variable GRADSLAM_NG_DATA names, else `datasets`, as `download`."""
    return Path(os.environ.get("GRADSLAM_NG_DATA", "datasets"))


def download(
    name: str,
    folder: Path | str = "datasets",
    url: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """Fetch a sequence of the catalog and unpack it to `folder/name`; where it is there already, nothing is done.

    An interrupted download goes on where it stopped. The archive's SHA-256 must be the catalog's, where known, and
    that of the first download, which is kept in `folder/name.sha256`.

    Args:
        name: in the catalog, such as "tum/fr1_desk".
        folder: where sequences live.
        url: a mirror of the archive, to be used in place of the catalog's address; `file://` serves too.
        progress: called with the bytes so far, and in all where known.

    Returns:
        The folder of the sequence: what `load` takes, or, for a set of sequences, the folder above them.

    Raises:
        ValueError: no such name; the checksum differs; not an archive, or one that would unpack outside its folder.
        OSError: the address cannot be read, or broke off.
    """
    entry = CATALOG.get(name)
    if entry is None:
        near = meant(name, CATALOG, most=5, cutoff=0.4) or f"; it has {', '.join(CATALOG)}"
        raise ValueError(f"no sequence {name!r} in the catalog{near}")
    target = Path(folder) / name
    if target.is_dir():
        return sequence_folder(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    fetch(url or entry.url, part, progress)
    record = target.with_name(target.name + ".sha256")
    words = read_text(record, "a SHA-256").split() if record.is_file() else []
    first = words[0] if words else None
    digest = sha256(part)
    for expected, whose in ((entry.sha256, "the catalog has"), (first, f"the first download had ({record})")):
        if expected is not None and digest != expected:
            part.unlink()
            raise ValueError(f"{url or entry.url}: SHA-256 is {digest}, {whose} {expected}; refused")
    fresh = target.with_name(target.name + ".unpacking")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        unpack(part, fresh)
        for inner in sorted(fresh.rglob("*.zip")):  # 7-Scenes packs each run once more
            unpack(inner, inner.parent)
            inner.unlink()
        record.write_text(f"{digest}  {name}\n")
        fresh.rename(target)
    except ValueError:
        part.unlink()  # a broken or hostile archive is of no use to a second try
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    part.unlink()
    return sequence_folder(target)

"""One word for each concept, the field's own, in American spelling: retired words stay retired.

`python tests/test_vocabulary.py` prints every place. `docs/glossary.md` says what the words mean.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Names that no identifier of the package has: what was written, and what to write.
NAMES = {
    # how tensors are run
    "hot": "compiled",
    "hot_functions": "compiled_functions",
    "compiling": "compilation",
    "growing": "dynamic",
    "one_pass": "fuse_reductions",
    "ONE_PASS": "FUSED_REDUCTION_OPTIONS",
    "GROWN": "SIZE_HINT",
    "_may_change": "_guards_to_keep",
    "_say_once": "_warn_once",
    "twin": "compiled version",
    "recomputed": "checkpoint",
    "pull_back": "vjp",
    "push_forward": "jvp",
    "tensors_of": "tree_leaves",
    "leafwise": "tree_map",
    "interleave": "stack_last",
    "transform_planes": "transform_soa",
    "rotate_planes": "rotate_soa",
    "project_planes": "project_soa",
    "Planes": "XYZ",
    "lean": "checkpoint",
    # odometry
    "ICPOdometer": "ProjectiveICP",
    "GroundTruthOdometer": "KnownPoses",
    "Alignment": "TrackingResult",
    "Reason": "TrackingStatus",
    "UNFIXED": "DEGENERATE",
    "weak": "degenerate",
    "turns": "rotation_iterations",
    "turning": "rotation_only",
    "left_open": "num_degenerate",
    "believed": "remap_solution, is_confirmed",
    "SPURIOUS": "DEGENERACY_THRESHOLD",
    "project_and_reduce": "linearize_point_to_plane",
    "look_and_reduce": "linearize_photometric",
    "Glance": "ImageSamples",
    "unhidden": "is_unoccluded",
    "Brightness": "PhotometricFactor",
    "ahead": "in_front",
    "PAIRING_NOISE": "ASSOCIATION_NOISE",
    "slack": "error_noise",
    "resting": "converged",
    # mapping and rendering
    "founding": "unmatched",
    "proven": "reliable",
    "settled": "static",
    "SETTLED": "STATIC_AFTER",
    "doubted": "dynamic",
    "DOUBT": "DYNAMIC_WEIGHT",
    "violated": "retention",
    "tidy": "prune",
    "tidy_every": "prune_every",
    "concluded": "finalize",
    "lasting": "keep_mask",
    "patience": "max_unseen_frames",
    "persistence": "min_track_length",
    "claim": "allocate",
    "near_pixels": "dilate_at",
    "JOINED": "DEPTH_CONTINUITY",
    "steadiness": "relative_precision",
    "_REACH": "_MAX_BLOCK",
    "hue": "color",
    "project_balls": "project_spheres",
    "Directory": "BlockIndex",
    "FEWER": "COMPACT_BELOW",
    "POLISH": "NEWTON_STEPS",
    "bell": "kernel, Gaussian footprint",
    "FADE": "KERNEL_CUTOFF",
    "halved": "downsample",
    "thinned": "subsample",
    "unsmoothed": "raw_vertices",
    "Kept": "FusedFrame",
    # SLAM, places, graphs, commands
    "relocalises": "supports_relocalization",
    "Relocaliser": "Relocalizer",
    "undivided": "defer_interrupts",
    "one_core_left": "share_cores",
    "Captured": "GraphedStep",
    "thumbnail": "tiny_image_descriptor",
    "Describe": "Descriptor",
    "alike": "similarities, same_kind",
    "hang": "attach",
    "hanging": "relative_poses",
    "Agreement": "Consistency",
    "likeness": "intensity_ncc",
    "wide_search": "coarse_icp",
    "doubtful": "pending_correction",
    "PUT_AWAY": "ARCHIVE_FRACTION",
    "NEGLIGIBLE": "MIN_CORRECTION",
    "LARGE": "CONFIRM_ABOVE",
    "surprise": "mahalanobis_distance",
    "optimum": "optimize_pose_graph",
    "SLIP": "ODOMETRY_KERNEL",
    "colors_seen": "predict",
    "bring_back": "reactivate",
    "ties": "anchors",
    "_untied": "_gauge_free",
    "Layout": "Ordering",
    "Diagonal": "DiagonalWeight",
    "Full": "FullWeight",
    "weigh": "whiten",
    "Clips": "RGBDClips",
    "disturbances": "corruptions",
}

# Names that are fine for a variable, but not for a function, a class or a parameter.
DEFINITIONS = {
    "positive": "heaviside",
    "margin": "pad",
    "filled": "tree_unflatten",
    "select": "tree_where",
    "trusted": "is_tracked",
    "verdict": "classify",
    "across": "window",
    "registration": "registration_sigma",
    "closer": "better_initial_pose",
    "textured": "has_texture",
    "accepted": "gate_pairs",
    "scaled": "normalize_units",
    "observe": "measure_surface",
    "covered": "is_represented",
    "connected": "grow_regions",
    "around": "box_sum",
    "meet": "intersect_surface",
    "polish": "newton_refine",
    "scattered": "low_discrepancy_offsets",
    "enlarged": "upsample_nearest",
    "put": "scatter",
    "numbered": "with_frame_tensor",
    "compared": "compare_views",
    "remember": "add",
    "aligned": "align",
    "fits": "verify",
    "settle": "apply_pending",
    "beside": "asynchronous",
    "travelled": "path_length",
    "joined": "concatenate",
    "moved": "transform",
    "fused": "merge_passes",
    "graduated": "graduated_non_convexity",
    "hold": "fix",
    "held": "fixed",
    "twins": "look_alike_rooms",
    "figures": "summary",
    "Sequence": "RGBDSequence",
}

# Files, by the name of the module.
MODULES = {
    "hot": "compute/compiled",
    "recompute": "compute/checkpoint, compute/tree",
    "planes": "compute/masks",
    "given": "known_poses",
    "linearization": "point_to_plane",
    "directions": "degeneracy",
    "arrivals": "dynamics",
    "readings": "frame_surfels",
    "guards": "runtime",
    "captured": "graphed_step",
    "agreement": "consistency",
    "layers": "submaps",
    "robust": "gnc",
    "layout": "ordering",
    "disturbances": "corruptions",
    "alike": "aliasing",
    "placing": "placement",
}

# Prose: comments, docstrings, messages, and pages.
PROSE = {
    r"hot (function|path|op)s?": "compiled function, kernel",
    r"(compiled|plain|fast) twins?|twins? (of|for|held|agree)": "compiled version, plain version",
    r"doubted|doubtful": "dynamic",
    r"steadiness": "relative precision",
    r"founding": "unmatched, new",
    r"pull(ed|s|ing)? back": "vector-Jacobian product",
    r"push(ed|es|ing)? forward": "Jacobian-vector product",
    r"readings": "depth measurements",
    r"(an?|no|each|every|this|that|one|depth) reading(?! (a|the|ahead|from|of files))": "depth measurement",
    r"the house|nouns?|in the same room|at the door": "the package, data structures, at the call",
    r"hues?": "color",
    r"bell": "Gaussian footprint",
    r"thumbnails?": "tiny image",
    r"surpris(e|ing) (gate|of)|(the|its) surprise": "Mahalanobis distance",
    r"time for memory": "activation checkpointing",
}

# British spelling, in identifiers and prose alike.
SPELLING = {
    r"colour": "color",
    r"(?<![a-z])(milli|centi|kilo|micro)?metre(?=s?(?![a-z]))": r"\1meter",
    r"centre(?!d)|centr(?=ed|ing)": "center",
    r"neighbour": "neighbor",
    r"behaviour": "behavior",
    r"favour": "favor",
    r"catalogue": "catalog",
    r"licence": "license",
    r"grey": "gray",
    r"artefact": "artifact",
    r"analys(?=e(?!s)|ing)": "analyz",
    r"judgement": "judgment",
    r"defence": "defense",
    r"(travel|label|model|cancel|signal|level|channel)l(?=ed|ing|er)": r"\1",
    r"fulfil(?!l)": "fulfill",
    r"fibre": "fiber",
    r"whilst": "while",
    r"learnt": "learned",
    r"programme(?!r|d)": "program",
    r"(categor|character|custom|diagonal|discret|emphas|equal|factor|final|formal|general|global|homogen|ideal|initial"
    r"|linear|local|marginal|material|maxim|memor|minim|modular|neutral|normal|optim|organ|orthogonal|orthonormal"
    r"|parallel|parameter|parametr|penal|polar|priorit|quant|random|raster|real|recogn|regular|sanit|scalar|serial"
    r"|special|stabil|standard|summar|symmetr|synchron|token|triangular|trivial|util|vector|visual|voxel)"
    r"is(?=e|ing|ation|able)": r"\1iz",
}

SPELLED = ("*.md", "*.py", "docs/**/*.md", "datasets/*.md", "demos/**/*.md", "demos/**/*.py", "benchmarks/**/*.py")
SPELLED += ("gradslam_ng/**/*.py", "tests/**/*.py")


def read_words(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, kind ("name", "definition" or "prose") and text of whatever a source file says.

    A string of one word is data, such as a key that files of earlier versions have, and is not looked at.
    """
    source = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line, text = token.start[0], token.string
        if token.type == tokenize.NAME:
            yield line, "name", text
        elif token.type == tokenize.COMMENT or (tokenize.tok_name[token.type][-6:] in ("STRING", "MIDDLE")):
            if re.fullmatch(r"[a-z]*(['\"]+)[\w.-]*\1", text):
                continue
            for offset, part in enumerate(text.splitlines()):
                yield line + offset, "prose", part
                for quoted in re.findall(r"`([^`]+)`", part):
                    yield from ((line + offset, "name", name) for name in re.findall(r"[A-Za-z_]\w*", quoted))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.lineno, "definition", node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, "definition", node.arg


def retired_words() -> list[str]:
    """Where the package uses a retired name or word, and what to write instead."""
    prose = [(re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), instead) for pattern, instead in PROSE.items()]
    found = set()
    for path in sorted((ROOT / "gradslam_ng").rglob("*.py")):
        if path.stem in MODULES:
            found.add((path, 1, path.name, MODULES[path.stem]))
        for line, kind, text in read_words(path):
            if kind == "prose":
                found |= {(path, line, hit[0], instead) for regex, instead in prose for hit in regex.finditer(text)}
            elif text in (names := NAMES if kind == "name" else DEFINITIONS):
                found.add((path, line, text, names[text]))
    return describe(found)


def british_spelling() -> list[str]:
    """Where sources or pages are not in American spelling; code spans of pages are looked at where they come from."""
    found = set()
    for path in sorted({path for pattern in SPELLED for path in ROOT.glob(pattern)} - {Path(__file__).resolve()}):
        if all(respell(word) == word for word in words(path.stem + " " + path.read_text())):
            continue  # most files, and to read what is what takes long
        if path.suffix == ".py":
            lines = [(line, text) for line, _, text in read_words(path)]
        else:
            lines = enumerate(re.sub("`[^`\n]+`", "", path.read_text()).splitlines(), 1)
        for line, text in [(1, path.stem), *lines]:
            found |= {(path, line, word, new) for word in words(text) if (new := respell(word)) != word}
    return describe(found)


def words(text: str) -> list[str]:
    return re.findall("[A-Za-z]+", text)


@functools.cache
def respell(word: str) -> str:
    """A word in American spelling, in capitals where it was in capitals."""
    for pattern, new in SPELLING.items():
        if hit := re.search(pattern, word, re.IGNORECASE):
            changed = hit.expand(new)
            changed = changed.upper() if hit[0].isupper() else hit[0][0] + changed[1:]
            word = word[: hit.start()] + changed + word[hit.end() :]
    return word


def describe(found: set[tuple[Path, int, str, str]]) -> list[str]:
    return [f"{path.relative_to(ROOT)}:{line} `{word}`: write {instead}" for path, line, word, instead in sorted(found)]


CHECKS = (retired_words, british_spelling)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_retired_words_stay_retired(check):
    found = check()
    assert not found, "\n" + "\n".join(found)


def test_words_are_found_where_they_stand(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        'KEYS = {"turns": 1}\n\n\ndef weigh(lean):  # a hot path\n    """As `pull_back`."""\n    error("no turns")\n'
    )
    found = list(read_words(path))
    assert ("turns" in [text for _, _, text in found]) is False
    assert {(4, "definition", "weigh"), (4, "definition", "lean"), (4, "name", "lean"), (5, "name", "pull_back")} <= {
        *found
    }
    assert (4, "prose", "# a hot path") in found and (6, "prose", '"no turns"') in found


def test_spelling():
    pairs = {
        "relocalisation": "relocalization",
        "Normalised": "Normalized",
        "centre": "center",
        "Centred": "Centered",
        "centring": "centering",
        "millimetres": "millimeters",
        "CATALOGUE": "CATALOG",
        "travelled": "traveled",
        "analysing": "analyzing",
    }
    assert {british: respell(british) for british in pairs} == pairs
    unchanged = (
        "noise otherwise precise realistic geometry symmetric concentrate analyses fulfilled programmer perimeter"
    )
    assert respell(unchanged) == unchanged


if __name__ == "__main__":
    results = {check.__name__: check() for check in CHECKS}
    for name, places in results.items():
        print(f"\n{name}: {len(places)}", *places, sep="\n  ")
    raise SystemExit(int(any(results.values())))

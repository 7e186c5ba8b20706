"""Whether a recording is fit to be run: the one place that judges it, for `load`, `info` and `run` alike."""

from __future__ import annotations

from torch import Tensor

from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.sampling import Sample, sample_frames
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.geometry import se3, so3

GAP = 1.5  # intervals between frames longer than this many usual ones are gaps
LONG_GAP, MANY_GAPS = 5.0, 0.1  # usual intervals, and share of the frames, from which gaps are worth a warning
FRAME_TIME = (1e-4, 10.0)  # seconds between frames; others are no seconds
DEPTH_RANGE = (0.15, 15.0)  # meters: a median depth outside is not what RGB-D cameras in rooms see
POSSIBLE_DEPTH = (0.05, 100.0)  # meters: a median depth outside is in another unit
FAR = 20.0  # meters: beyond the range of any sensor
FEW_FAR = 0.01  # share of the pixels with such depth that is not worth a warning
FEW_VALID = 0.3  # share of the pixels with depth
SPEED = (5.0, 8.0)  # m/s and rad/s: faster is no hand-held camera but a jump of the ground truth
NO_BETTER, MISFIT = 0.5, 0.01  # of what standing still leaves, and of the depth: from where poses do not fit images
STILL = 1e-9  # meters, and of a rotation's entries: poses that differ by less are the same
BESIDE = 60.0  # seconds: ground truth that begins or ends so near to some frames of a recording is of its others
OFF_CENTER = 0.15  # distance of the principal point from the image's center, in image sizes
FOCAL = (0.3, 5.0)  # focal lengths, in image widths, between 118 and 11 degrees
SQUARE = 0.25  # relative difference of fx and fy
DARK = 0.01  # mean brightness
FEW_BITS = 1 / 8  # of white: where nothing is brighter, 12 bit in files of 16


def validate(sequence: RGBDSequence, sample: Sample | None = None) -> list[Finding]:
    """What is odd about a sequence, worst first: its files, its times, its camera, its images and its poses.

    sample: its frames; default: some are read.
    """
    sample = sample_frames(sequence, 20, FAR) if sample is None else sample
    found = [*sequence.findings, *_files(sequence), *_times(sequence.timestamps), *_camera(sequence)]
    found += _frames(sample) + _depth(sample, sequence.depth_scale, sequence.max_depth)
    found += _color(sample) + _poses(sequence) + _pose_fit(sample)
    order = ("error", "warning", "note")
    return sorted(found, key=lambda finding: order.index(finding.severity))


def _files(sequence: RGBDSequence) -> list[Finding]:
    """Missing images."""
    found = []
    for kind, files in sequence.image_files().items():
        missing = [files[i] for i in sequence.indices if not files[i].is_file()]
        if missing:
            text = f"{len(missing)} {kind} files are missing, the first is {missing[0]}"
            found.append(Finding("warning", "files.missing", text))
    return found


def _times(timestamps: Tensor) -> list[Finding]:
    """Gaps, repetitions and steps back in time."""
    steps = timestamps.diff()
    if len(steps) == 0:
        return [Finding("note", "frames.one", "only one frame")]
    found = []
    usual = float(steps.median())
    gaps = steps > GAP * usual
    if bool(gaps.any()) and usual > 0:
        at = int(steps.argmax())
        worst = float(steps[at])
        serious = worst > LONG_GAP * usual or int(gaps.sum()) > MANY_GAPS * len(steps)
        text = f"{int(gaps.sum())} gaps in time, the longest {worst:.3f} s after frame {at} (usually {usual:.3f} s)"
        found.append(Finding("warning" if serious else "note", "time.gaps", text))
    if bool((steps == 0).any()):
        text = f"{int((steps == 0).sum())} frames have the time stamp of the frame before"
        found.append(Finding("warning", "time.repeated", text))
    if bool((steps < 0).any()):
        text = f"{int((steps < 0).sum())} frames are earlier than the frame before"
        found.append(Finding("warning", "time.unsorted", text))
    if usual > 0 and not FRAME_TIME[0] <= usual <= FRAME_TIME[1]:
        text = f"frames are {usual:.3g} s apart: are the time stamps in seconds?"
        found.append(Finding("warning", "time.unit", text))
    return found


def _camera(sequence: RGBDSequence) -> list[Finding]:
    """A camera that does not look like that of these images, such as one for another image size."""
    height, width = sequence.size
    (fx, _, cx), (_, fy, cy), _ = sequence.K.tolist()
    found = []
    if abs(cx - (width - 1) / 2) > OFF_CENTER * width or abs(cy - (height - 1) / 2) > OFF_CENTER * height:
        text = f"principal point ({cx:.1f}, {cy:.1f}) is off the center of {width}x{height}: K of another image size?"
        found.append(Finding("warning", "camera.center", text))
    if not FOCAL[0] <= fx / width <= FOCAL[1]:
        text = f"focal length of {fx:g} pixels is unusual for images of {width}x{height}"
        found.append(Finding("warning", "camera.focal", text))
    if abs(fx / fy - 1) > SQUARE:
        found.append(Finding("warning", "camera.focal", f"focal lengths of {fx:g} and {fy:g} pixels: not square"))
    return found


def _frames(sample: Sample) -> list[Finding]:
    """Frames that cannot be read, or do not change."""
    found = []
    if sample.failed:
        counts = f"{len(sample.failed)} of {sample.picked} sampled frames"
        text = f"{counts} cannot be read, the first: {sample.failed[0]}"
        found.append(Finding("warning", "frames.unreadable", text))
    if sample.repeated:
        text = f"{sample.repeated} of {sample.read} sampled frames are equal to the one before"
        found.append(Finding("warning", "frames.repeated", text))
    kinds = ("color", "depth", sample.repeated_color), ("depth", "color", sample.repeated_depth)
    for kind, other, count in kinds:
        if count:
            text = f"{kind} of {count} of {sample.read} sampled frames is that of the one before, {other} is not"
            found.append(Finding("warning", f"{kind}.repeated", f"{text}: has it frozen?"))
    return found


def _depth(sample: Sample, scale: float | None, max_depth: float) -> list[Finding]:
    """Depth in another unit, from beyond the sensor, constant, or hardly any."""
    depth = sample.depth
    if depth is None:
        return [Finding("error", "depth.none", "no depth in the sampled frames")] if sample.read else []
    found = []
    if not DEPTH_RANGE[0] <= depth.median <= DEPTH_RANGE[1]:
        unit = "" if scale is None else f"; is the depth unit 1/{scale:g} m? --depth-scale gives another"
        impossible = not POSSIBLE_DEPTH[0] <= depth.median <= POSSIBLE_DEPTH[1]
        text = f"median depth of {depth.median:.3g} m is unusual{unit}"
        found.append(Finding("error" if impossible else "warning", "depth.unit", text))
    elif depth.beyond > FEW_FAR:
        limit = f"{max_depth:g} m, the greatest depth that counts (max_depth), and are left out"
        text = f"{depth.beyond:.1%} of the pixels have depth beyond {limit}"
        found.append(Finding("warning", "depth.beyond", text))
    elif depth.far > FEW_FAR:
        text = f"{depth.far:.1%} of the pixels have depth from beyond {FAR:g} m, up to {depth.max:g} m"
        found.append(Finding("warning", "depth.far", text))
    if sample.constant_depth and sample.constant_depth == sample.read:
        text = f"depth is the same, {depth.median:.3f} m, in all pixels of the sampled frames"
        found.append(Finding("error", "depth.constant", text))
    if depth.valid < FEW_VALID:
        found.append(Finding("warning", "depth.few", f"only {depth.valid:.0%} of the pixels have depth"))
    return found


def _color(sample: Sample) -> list[Finding]:
    """Color without content, or out of range."""
    if not sample.read:
        return []
    low, high = sample.color_range
    if not (-1e-3 <= low and high <= 1 + 1e-3):
        return [Finding("error", "color.range", f"color reaches from {low:g} to {high:g}; expected 0 to 1")]
    if sample.constant_color == sample.read:
        return [Finding("warning", "color.constant", "every sampled frame is of one color throughout")]
    if sample.brightness < DARK:
        return [Finding("warning", "color.dark", f"color is nearly black, {sample.brightness:.1%} of white")]
    if high < FEW_BITS:
        text = f"color reaches {high:.1%} of white at most: has it fewer bits than its files hold?"
        return [Finding("warning", "color.bits", text)]
    return []


def _poses(sequence: RGBDSequence) -> list[Finding]:
    """Ground truth that is of another time, not rigid, does not move, or jumps."""
    if sequence.T_wc is None:
        return []
    known = sequence.T_wc.isfinite().all(-1).all(-1)
    if not bool(known.any()):
        text = "no frame has a ground truth pose: its times and those of the frames do not meet"
        return [Finding("note" if _is_beside_truth(sequence) else "warning", "poses.none", text)]
    found = []
    T_wc, times = sequence.T_wc[known], sequence.timestamps[known]
    if 2 * len(T_wc) < len(sequence):
        found.append(Finding("note", "poses.few", f"{len(T_wc)} of {len(sequence)} frames have a ground truth pose"))
    rigid = se3.is_rigid(T_wc)
    if not bool(rigid.all()):
        found.append(Finding("error", "poses.rigid", f"{int((~rigid).sum())} ground truth poses are not rigid motions"))
    if len(T_wc) > 1 and bool(((T_wc - T_wc[:1]).abs() < STILL).all()):
        return [*found, Finding("warning", "poses.still", "all ground truth poses are the same")]
    if len(T_wc) > 1 and bool(((T_wc - T_wc[:1])[:, :3, :3].abs() < STILL).all()):
        text = "all ground truth poses have the same rotation: does the ground truth tell positions alone?"
        found.append(Finding("note", "poses.rotation", text))
    moved = T_wc[:, :3, 3].diff(dim=0).norm(dim=-1)
    turned = so3.log(T_wc[:-1, :3, :3].mT @ T_wc[1:, :3, :3]).norm(dim=-1)
    elapsed = times.diff().clamp(min=1e-3)
    jumps = (moved / elapsed > SPEED[0]) | (turned / elapsed > SPEED[1])
    if bool(jumps.any()):
        first = int(known.nonzero().flatten()[1:][jumps][0])
        mostly = 2 * int(jumps.sum()) > len(jumps)
        unit = ": is it in meters, and in the order of the frames?" if mostly else ""
        text = f"the ground truth jumps {int(jumps.sum())} times, first before frame {first}{unit}"
        found.append(Finding("warning", "poses.jump", text))
    return found


def _pose_fit(sample: Sample) -> list[Finding]:
    """Ground truth by which the images fit each other no better than if the camera had never moved."""
    if len(sample.pose_errors) < 2:
        return []
    by_truth, still = (sum(errors) / len(errors) for errors in zip(*sample.pose_errors, strict=True))
    if by_truth < max(NO_BETTER * still, MISFIT):
        return []
    text = (
        f"the ground truth does not fit the images: by it depth is off by {by_truth:.1%} from frame to frame, and if "
        f"the camera had stood still by {still:.1%}; are the poses camera to world, with x right, y down, z forward, "
        "quaternions as x y z w, of these frames? Are camera and depth unit right?"
    )
    return [Finding("warning", "poses.images", text)]


def _is_beside_truth(sequence: RGBDSequence) -> bool:
    """Whether these are some frames of a recording, before the ground truth begins or after it ends."""
    is_part = sequence.is_recorded and len(sequence) < sequence.recorded_frames
    if not is_part or sequence.ground_truth is None or not len(sequence.ground_truth):
        return False
    truth, times = sequence.ground_truth.timestamps, sequence.timestamps
    apart = max(float(truth[0] - times[-1]), float(times[0] - truth[-1]))
    return 0 < apart < BESIDE

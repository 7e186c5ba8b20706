"""Tables of speed and accuracy."""

from __future__ import annotations

from typing import Any

from benchmarks.tables.common import (
    BY_DEFAULT,
    BY_RUN,
    FULL_AND_HALF,
    SEQUENCES,
    WIDTHS,
    found,
    load,
    markdown,
    measured,
    sequence_name,
    size,
    table,
)

FOLDERS = {
    "ICL office kt3": "office_room_traj3_frei_png",
    "TUM fr3 structure_notexture_far": "rgbd_dataset_freiburg3_structure_notexture_far",
    "7-Scenes redkitchen": "redkitchen",
}


def throughput_runs() -> list[dict[str, Any]]:
    """All runs of `benchmarks.throughput`, each with its name and the size that it tracked at."""
    runs = []
    for name in found("throughput_"):
        run = load(name) | {"name": name}
        width, height = map(int, run["size"].split("x"))
        factor = max(1, round(width / WIDTHS[run["preset"]]))
        runs.append({"working_size": f"{width // factor}x{height // factor}", "busy": 0} | run)
    return runs


def is_usual(run: dict[str, Any]) -> bool:
    """A sequence of the headline, compiled, on an idle machine with two threads."""
    return run["sequence"] in SEQUENCES and run["compiled"] and not run["busy"] and run["threads"] == 2


def spread(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.1f} ({ratio['lowest']:.1f} to {ratio['highest']:.1f})"


@table
def headline() -> str:
    columns = (
        "100 frames of", "images", "tracked at", "ATE, cm", "Open3D's", "ms a frame", "Open3D's", "times as fast",
    )  # fmt: skip
    rows, chosen = [], [run for run in throughput_runs() if is_usual(run)]
    for run in sorted(chosen, key=lambda run: (list(SEQUENCES).index(run["sequence"]), run["size"] != "640x480")):
        preset = "" if run["preset"] == "default" else f", `{run['preset']}`"
        ours, theirs = run["gradslam_ng"], run["open3d"]
        rows.append([
            SEQUENCES[run["sequence"]] + preset, run["size"], run["working_size"], f"{ours['ate_cm']:.2f}",
            f"{theirs['ate_cm']:.2f}", f"{ours['milliseconds']['median']:.0f}",
            f"{theirs['milliseconds']['median']:.0f}", f"{run['times_as_fast_as']['open3d']['median']:.1f}",
        ])  # fmt: skip
    command = "throughput --sequence FOLDER [--preset NAME] [--size 320x240]"
    images = "as in the columns; Open3D's dense SLAM works at full size"
    return markdown(columns, rows, measured(command, [run["name"] for run in chosen], images=images))


@table
def throughput() -> str:
    columns = (
        "sequence", "images", "tracked at", "preset", "threads", "busy programs beside", "compiled", "PointFusion, ms",
        "Open3D dense SLAM, ms", "times as fast (by block of ten frames)", "Open3D odometry, frame to frame, ms",
    )  # fmt: skip
    rows = []
    for run in throughput_runs():
        ours, theirs, odometry = (
            f"{run[name]['milliseconds']['median']:.1f}" for name in ("gradslam_ng", "open3d", "open3d_hybrid_odometry")
        )
        rows.append([
            sequence_name(run), run["size"],
             run["working_size"], run["preset"], str(run["threads"]),
            str(run["busy"]), "yes" if run["compiled"] else "no", ours, theirs,
            spread(run["times_as_fast_as"]["open3d"]), odometry,
        ])  # fmt: skip
    images = "as in the columns; Open3D works at full size"
    command = "throughput --sequence FOLDER [--preset NAME] [--size WxH] [--threads N] [--busy N] [--no-compile]"
    names = [run["name"] for run in throughput_runs()]
    return markdown(columns, rows, measured(command, names, "as in the column", images))


@table
def throughput_stages() -> str:
    columns = (
        "run", "prepare", "predict", "localize", "map", "seconds compiling", "ATE, cm", "Open3D: track", "integrate",
        "ray-cast", "ATE, cm", "Open3D odometry: ATE, cm",
    )  # fmt: skip
    rows = []
    for run in throughput_runs():
        ours, theirs = (list(run[name]["milliseconds"]["stages"].values()) for name in ("gradslam_ng", "open3d"))
        rows.append([
            run["name"].removeprefix("throughput_"), *(f"{ms:.1f}" for ms in ours), f"{run['seconds_compiling']:.0f}",
            f"{run['gradslam_ng']['ate_cm']:.2f}", *(f"{ms:.1f}" for ms in theirs), f"{run['open3d']['ate_cm']:.2f}",
            f"{run['open3d_hybrid_odometry']['ate_cm']:.2f}",
        ])  # fmt: skip
    command, names = "throughput", [run["name"] for run in throughput_runs()]
    return markdown(columns, rows, measured(command, names, "as above", "as above"))


@table
def bound() -> str:
    columns = (
        "sequence", "a frame, ms", "calls of compiled functions", "their cost, ms", "moved, MB", "memory, GB/s",
        "to move it, ms", "frame, times the sum of both",
    )  # fmt: skip
    rows, names = [], found("bound_")
    for name in names:
        run = load(name)
        rows.append([
            sequence_name(run), f"{run['frame_ms']:.1f}", f"{run['calls']:.0f}",
            f"{run['calls_ms']:.1f}", f"{run['megabytes']:.0f}", f"{run['gigabytes_per_second']:.1f}",
            f"{run['memory_ms']:.1f}", f"{run['times_the_sum']:.1f}",
        ])  # fmt: skip
    return markdown(columns, rows, measured("bound --sequence FOLDER", names, images=FULL_AND_HALF))


@table
def accuracy() -> str:
    names = ["accuracy_pointfusion_gradicp", "accuracy_kinectfusion_gradicp", "accuracy_open3d"]
    point, kinect, open3d = (load(name)["rows"] for name in names)
    columns = (
        "sequence", "frames", "Open3D dense SLAM", "PointFusion", "KinectFusion", "target", "RPE a frame, PointFusion",
        "RPE, KinectFusion", "map of PointFusion", "of KinectFusion",
    )  # fmt: skip
    rows = []
    for name, row in point.items():
        both = (row, kinect[name])
        theirs = f"{100 * open3d[FOLDERS[name]]['ate']:.2f} cm" if name in FOLDERS else "-"
        rows.append([
            name, str(row["frames"]), theirs, *(f"{100 * found['ate']:.2f} cm" for found in both), f"{row['mark']} cm",
            *(f"{100 * found['rpe']:.3f} cm" for found in both), *(str(found["map"]) for found in both),
        ])  # fmt: skip
    images = f"{FULL_AND_HALF}; Open3D works at full size"
    command = "accuracy [--system KinectFusion]` and `python -m benchmarks.open3d_slam FOLDER"
    return markdown(columns, rows, measured(command, names, BY_RUN, images))


@table
def surface() -> str:
    name = "accuracy_pointfusion_gradicp"
    columns = (
        "map of 300 frames", "surfels", "mean distance from the true surface",
        "mean distance of the seen surface from a surfel's center", "of it within 1 cm", "within 2 cm",
        "surfels for each visible pixel",
    )  # fmt: skip
    rows = []
    for sequence, row in load(name)["rows"].items():
        if "surface" in row:
            s = row["surface"]
            rows.append([
                sequence, row["map"].split()[0], f"{1e3 * s['accuracy_m']:.1f} mm", f"{1e3 * s['completion_m']:.1f} mm",
                f"{s['within_1_cm']:.0%}", f"{s['within_2_cm']:.0%}", f"{s['points_per_pixel']:.2f}",
            ])  # fmt: skip
    return markdown(columns, rows, measured("accuracy --only 'living room'", [name], BY_RUN, FULL_AND_HALF))


@table
def ablation() -> str:
    data = load("ablation")["rows"]
    sequences = [name for name in next(iter(data.values())) if "every" not in name]
    labels = (
        "geometry alone, every depth alike", "+ noise that grows with depth", "+ photometric factor",
        "+ rotation first (the default)", "color taken as exactly registered", "every row of pixels (`row_stride=1`)",
    )  # fmt: skip
    rows = [
        [label] + [f"{row[s]['ate_cm']:.2f} / {row[f'{s}, every fifth']['ate_cm']:.2f}" for s in sequences]
        for label, row in zip(labels, data.values(), strict=True)
    ]
    caption = measured("ablation", ["ablation"], BY_RUN, FULL_AND_HALF)
    return markdown(["ATE in cm, all frames / every fifth", *sequences], rows, caption)


@table
def claim() -> str:
    columns = ("sequence", "frames", "images", "system", "LM, ATE", "soft-damped LM", "ratio", "LM, RPE", "soft-damped")
    rows = []
    for name, row in load("claim")["rows"].items():
        for system, by_odometry in row["systems"].items():
            (hard, soft), (rpe_hard, rpe_soft) = (
                [by_odometry[kind][figure] for kind in ("icp", "gradicp")] for figure in ("ate", "rpe")
            )
            rows.append([
                name.replace("none noise", "clean"), str(row["frames"]), size(row["size"]), system,
                f"{100 * hard:.4f} cm", f"{100 * soft:.4f} cm", f"{soft / hard:.3f}", f"{100 * rpe_hard:.4f} cm",
                f"{100 * rpe_soft:.4f} cm",
            ])  # fmt: skip
    caption = measured("claim", ["claim"], BY_DEFAULT, "as in the column, tracked at 320x240")
    return markdown(columns, rows, caption)


@table
def differentiable_accuracy() -> str:
    names = ["accuracy_pointfusion_icp_geometry", "accuracy_pointfusion_gradicp_geometry"]
    hard, soft = (load(name)["rows"] for name in names)
    rows = [
        [name, f"{100 * hard[name]['ate']:.3f} cm", f"{100 * soft[name]['ate']:.3f} cm",
         f"{soft[name]['ate'] / hard[name]['ate']:.3f}"]
        for name in hard
    ]  # fmt: skip
    caption = measured("accuracy --no-photometric [--odometry icp]", names, BY_RUN, FULL_AND_HALF)
    return markdown(("PointFusion, geometry alone", "LM, ATE", "soft-damped LM, ATE", "ratio"), rows, caption)

"""Tables of what disturbs a run, what grows, and what loops are worth."""

from __future__ import annotations

from itertools import groupby

from benchmarks.tables.common import BY_RUN, FULL_AND_HALF, load, markdown, measured, number, size, table

COUNTS = ("frames", "lost", "uncertain", "called", "silent", "wrong")  # of the table `trust`


@table
def robustness() -> str:
    name = "robustness_pointfusion"
    rows = []
    for label, row in load(name)["rows"].items():
        unit = {"x": "times", "cm": "cm", "%": "%", "frames": "frames"}[row["unit"]]
        absolute = f"{row['details']['cm']:.2f} cm" if "cm" in row["details"] else ""
        target = f"{row['mark']:g} {unit}"
        rows.append(
            [label, f"{number(row['value'], 0 if unit == 'frames' else 2)} {unit}", absolute, target, str(row["lost"])]
        )
    columns = ("disturbance", "measured", "ATE", "target, at most", "frames lost")
    return markdown(columns, rows, measured("robustness", [name], BY_RUN, FULL_AND_HALF))


@table
def wide_steps() -> str:
    columns = ("recording", "every", "method", "frames", "lost", "uncertain", "wrong", "ATE, cm")
    counts = ("frames", "lost", "uncertain", "wrong")
    rows = [
        [row["recording"], str(row["step"]), row["method"], *(str(row[name]) for name in counts),
         f"{row['ate_cm']:.2f}"]
        for row in load("wide_steps")["rows"]
    ]  # fmt: skip
    return markdown(columns, rows, measured("wide_steps", ["wide_steps"], "1", "640x480, office walk 540x360; by half"))


@table
def trust() -> str:
    groups: dict[str, list[dict]] = {}
    for row in load("trust")["rows"]:
        for name in (row["group"], "all"):
            groups.setdefault(name, []).append(row)
    groups["all"] = groups.pop("all")
    columns = (
        "sequences", "how many", "frames", "lost", "uncertain", "called tracked", "of these wrong", "all wrong",
        "told", "NEES",
    )  # fmt: skip
    rows = []
    for name, members in groups.items():
        counts = {key: sum(row[key] for row in members) for key in COUNTS}
        nees = [value for row in members for value in row["nees"]]
        told = f"{1 - counts['silent'] / counts['wrong']:.0%}" if counts["wrong"] else "-"
        cells = [str(counts[key]) for key in COUNTS]
        rows.append([name, str(len(members)), *cells, told, f"{sum(nees) / len(nees):.1f}" if nees else "-"])
    images = "recordings 640x480, office walk 540x360, by half where thinned, else 160x120; rendered 320x240, by half"
    images += ", with motion blur as they are"
    return markdown(columns, rows, measured("trust", ["trust"], "1", images))


@table
def trials() -> str:
    columns = (
        "uncovered",
        "trials",
        "found after, frames, median and most",
        "in one map",
        "false poses",
        "frames lost",
    )
    rows = []
    for kind, members in groupby(load("trials")["trials"], key=lambda trial: trial["kind"]):
        trials = list(members)
        after = sorted(trial["found_after"] for trial in trials if trial["found_after"] > 0)
        found = f"{after[len(after) // 2]}, {after[-1]}; {len(trials) - len(after)} never"
        joined = sum(trial["joined"] for trial in trials)
        sums = (str(sum(trial[key] for trial in trials)) for key in ("false", "lost"))
        rows.append([kind, str(len(trials)), found, str(joined), *sums])
    return markdown(columns, rows, measured("trials", ["trials"], "1", "160x120"))


@table
def retrieval() -> str:
    columns = ("recording", "by", "places", "questions", "recall at 1", "at 5", "at 10")
    rows = [
        [row["recording"], row["way"], str(row["places"]), str(row["questions"]), *(f"{x:.0%}" for x in row["recall"])]
        for row in load("retrieval")["rows"]
    ]
    return markdown(
        columns, rows, measured("retrieval", ["retrieval"], "1", "640x480, office walk 540x360; tiny images by half")
    )


@table
def hurried() -> str:
    columns = ("recording", "frames", "lost", "maps", "ATE, cm", "undisturbed", "times", "target, at most")
    rows = [
        [row["name"], *(str(row[key]) for key in ("frames", "lost", "submaps")), f"{row['ate_cm']:.2f}",
         f"{row['undisturbed_cm']:.2f}", f"{row['ate_cm'] / row['undisturbed_cm']:.1f}", f"{row['mark']:g}"]
        for row in load("hurried")["rows"]
    ]  # fmt: skip
    return markdown(
        columns,
        rows,
        measured("hurried", ["hurried"], "1", "rendered 320x240, tracked as they are; office walk 540x360, by half"),
    )


@table
def lost_frames() -> str:
    columns = ("places more", "tracked, ms", "lost, ms", "times", "of it the first, ms", "frames lost")
    rows = [
        [f"{row['places']:,}", *(f"{row[name]:.0f}" for name in ("tracked_ms", "lost_ms")),
         f"{row['lost_ms'] / row['tracked_ms']:.1f}", f"{row['first_lost_ms']:.0f}", str(row["lost"])]
        for row in load("lost_frames")["rows"]
    ]  # fmt: skip
    return markdown(columns, rows, measured("lost_frames", ["lost_frames"], "1", FULL_AND_HALF))


@table
def refinement() -> str:
    columns = (
        "recording", "frames", "keyframes", "taken", "ATE, cm", "refined", "scale free", "refined", "misfit", "refined",
        "sharpness, mm", "refined", "time, of the run",
    )  # fmt: skip
    rows = [
        [row["recording"], str(row["frames"]), str(row["keyframes"]), "yes" if row["taken"] else "no",
         *(f"{x:.3f}" for x in (*row["ate_cm"], *row["ate_scale_free_cm"])), *(f"{x:.4f}" for x in row["misfit"]),
         *(f"{x:.2f}" for x in row["sharpness_mm"]),
         f"{row['times_the_run']:.1f}"]
        for row in load("refinement")["rows"]
    ]  # fmt: skip
    return markdown(columns, rows, measured("refinement", ["refinement"], "1", "640x480, run at half"))


@table
def calibration() -> str:
    columns = (
        "noise of the sensor", "cameras", "focal lengths, %", "center, px", "registration, px", "time, ms",
        "distance of the cameras, %", "scale of depth, %",
    )  # fmt: skip
    names = ("focal_percent", "center_px", "registration_px", "time_ms", "distance_percent", "scale_percent")
    rows = [
        [row["noise"], row["cameras"], *(f"{row[name]:.3f}" for name in names)] for row in load("calibration")["room"]
    ]
    return markdown(columns, rows, measured("calibration", ["calibration"], "1", "320x240"))


@table
def calibration_recordings() -> str:
    columns = (
        "recording", "frames", "cameras found", "taken", "ATE by depth alone, cm", "with color, as told", "as found",
        "scale free: by depth alone, cm", "as told", "as found",
    )  # fmt: skip
    ways = ("depth_alone", "told", "found")
    rows = []
    for row in load("calibration_recordings")["rows"]:
        kinds = (row["ate_cm"], row["scale_free_cm"])
        errors = [f"{kind[way]:.3f}" if way in kind else "-" for kind in kinds for way in ways]
        found = "others" if row["changed"] else "as told"
        rows.append([row["recording"], str(row["frames"]), found, "yes" if row["taken"] else "no", *errors])
    command = "calibration --recordings"
    return markdown(columns, rows, measured(command, ["calibration_recordings"], "1", "640x480, run at half"))


@table
def scaling() -> str:
    data = load("scaling")
    columns = (
        "growing", "images, across", "tracked, across", "surfels", "ms of the processor", "ms passed",
        "peak memory, MB",
    )  # fmt: skip
    rows = [
        [part, str(row["width"]), str(row["working_width"]), f"{row['surfels']:,}", f"{row['ms']:.0f}",
         f"{row['ms_wall']:.0f}", f"{row['peak_mb']:.0f}"]
        for part in ("resolution", "map")
        for row in data[part]
    ]  # fmt: skip
    return markdown(columns, rows, measured("scaling", ["scaling"], "1", "as in the columns, 4:3"))


@table
def batches() -> str:
    columns = ("sequences", "ms of the processor", "times one", "lowest", "highest", "target")
    rows = [
        [str(row["batch"]), f"{row['ms']:.0f}", *(f"{row[name]:.2f}" for name in ("times_one", "lowest", "highest")),
         "" if row["mark"] is None else f"{row['mark']:.1f}"]
        for row in load("batches")["rows"]
    ]  # fmt: skip
    return markdown(columns, rows, measured("batches", ["batches"], "1", "320x240, tracked as they are"))


@table
def scaling_frames() -> str:
    row = load("scaling")["frames"]
    columns = (
        "frames", "ms, frames 100 to 300", "ms, last 200", "ratio", "target", "memory, MB", "at the end",
        "surfels at frame 300", "at the end",
    )  # fmt: skip
    values = [
        f"{row['frames']:,}", f"{row['ms_frames_100_to_300']:.1f}", f"{row['ms_last_200']:.1f}", f"{row['ratio']:.2f}",
        f"{row['mark']}", f"{row['mb_frames_100_to_300']:.0f}", f"{row['mb_last_200']:.0f}",
        f"{row['surfels_at_frame_300']:,}", f"{row['surfels_at_the_end']:,}",
    ]  # fmt: skip
    return markdown(
        columns, [values], measured("scaling --only frames", ["scaling"], "1", "320x240, tracked as they are")
    )


@table
def loops() -> str:
    data = {name: row for name, row in load("loops").items() if name != "machine"}
    columns = (
        "sequence", "frames", "tracked at", "keyframes", "loops, false ones", "worst loop", "revisits recalled",
        "ATE without", "with loops", "tracking waits, ms a frame",
    )  # fmt: skip
    rows = []
    for name, row in data.items():
        found = row["loops"]
        recall = "-" if found["recall"] is None else f"{found['recall']:.0%}"
        worst = f"{found['worst_cm']:.1f} cm" if found["accepted"] else "-"
        rows.append([
            name.replace("_", " ").replace("shape alone", "geometry alone"), str(row["with"]["frames"]),
            size(row["size"]) if "size" in row else "320x240", str(found["keyframes"]),
            f"{found['accepted']}, {found['false']}", worst, recall, f"{row['without']['ate_cm']:.3f} cm",
            f"{row['with']['ate_cm']:.3f} cm", f"{row['with']['ms_wall_loops']:.1f} of {row['with']['ms_wall']:.0f}",
        ])  # fmt: skip
    images = "rendered as tracked; recordings 640x480"
    command = "loops [--size 120 160] [--system KinectFusion] [--no-photometric]"
    return markdown(columns, rows, measured(command, ["loops"], BY_RUN, images))


@table
def fuzz() -> str:
    data = load("fuzz")
    kinds = ("read", "frames skipped", "error", "failure")
    rows = [[name, *(str(row[kind]) for kind in kinds)] for name, row in data["rows"].items()]
    total = ["all", *(str(sum(row[kind] for row in data["rows"].values())) for kind in kinds)]
    columns = ("format", "read", "frames skipped", "one clear error", "failures")
    return markdown(
        columns, [*rows, total], measured(f"fuzz --cases {data['cases']}", ["fuzz"], "1", "64x48, four frames")
    )


@table
def kills() -> str:
    data = load("kills")
    rows = data["rows"]
    columns = ("runs", "frames of each", "killed, times", "states that were there, all read", "ended as one left alone")
    counts = [sum(row[name] for row in rows) for name in ("kills", "states_read", "same")]
    values = [str(value) for value in (len(rows), data["frames"], *counts)]
    command = f"kills --cases {len(rows)} --frames {data['frames']} --source {data['source']}"
    return markdown(columns, [values], measured(command, ["kills"], "1", "320x240, tracked as they are"))

"""Tables of volumes and rendering."""

from __future__ import annotations

from benchmarks.tables.common import load, markdown, measured, table


@table
def volumes() -> str:
    columns = (
        "sequence", "", "integrate, ms", "ray-cast, ms", "volume, MB", "mean distance of the mesh from the surface",
        "of the surface within 1 cm", "mesh in mid-air", "open edges seen, m for each m²",
    )  # fmt: skip
    rows = []
    for name, row in load("tsdf")["rows"].items():
        for system, label in (("gradslam_ng", "ours"), ("open3d", "Open3D")):
            r = row[system]
            error = r.get("accuracy_m", r.get("error_m"))
            floating = f"{r['floating']:.1%}" if "floating" in r else "-"
            edges = f"{r['open_m_per_m2']:.2f}" if "open_m_per_m2" in r else "-"
            rows.append([
                name, label, *(f"{ms:.0f}" for ms in r["milliseconds"].values()), f"{r['megabytes']:.0f}",
                f"{1e3 * error:.1f} mm", f"{r['within_1_cm']:.1%}", floating, edges,
            ])  # fmt: skip
    images = "640x480, integrated and ray-cast as they are"
    return markdown(columns, rows, measured("tsdf --frames 48", ["tsdf"], "1", images))


@table
def views_held_back() -> str:
    rows = [
        [name, f"{1e3 * row['views held back']['depth_l1_m']:.1f} mm", f"{row['views held back']['psnr_db']:.1f} dB"]
        for name, row in load("tsdf")["rows"].items()
    ]
    columns = ("views held back, rendered from the volume at the given poses", "depth L1", "PSNR")
    return markdown(columns, rows, measured("tsdf --frames 48", ["tsdf"], "1", "640x480, rendered at that size"))


@table
def volume_memory() -> str:
    graph, stream = load("volume_memory")["graph"], load("volume_memory")["stream"]
    rows = [
        ["a differentiable frame step, room of 128³ voxels of 4 cm", f"{graph['frame_step_mb']:.0f} MB",
         f"{graph['mark_mb']:.0f} MB"],
        [f"{stream['frames']:,} frames of redkitchen at 1 cm, the whole process", f"{stream['process_mb']:.0f} MB",
         f"{stream['mark_mb']:.0f} MB"],
        [f"of it the volume, {stream['blocks']:,} blocks", f"{stream['volume_mb']:.0f} MB", ""],
    ]  # fmt: skip
    images = "320x240 (step), 640x480 fused at 320x240 (recording)"
    caption = measured("volume_memory", ["volume_memory"], "1", images)
    return markdown(("KinectFusion", "memory", "target, at most"), rows, caption)


@table
def rendering() -> str:
    data = load("rendering")
    rows = [
        [name, f"{row['passed']:.0f}", f"{row['passed, at best']:.0f}", f"{row['processor']:.0f}"]
        for name, row in data["milliseconds"].items()
    ]
    columns = (f"{data['surfels']:,} surfels", "ms passed, median", "at best", "ms of the processor")
    return markdown(columns, rows, measured("rendering", ["rendering"], images="drawn at 640x480"))

"""Examples of each subcommand, which its `--help` ends with."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "run": (
        "gradslam-ng run FOLDER --out out --view",
        "gradslam-ng run FOLDER --out out --frames 0:200:2 --preset fast",
        "gradslam-ng run FOLDER --out out --system kinectfusion --odometry ground-truth --overwrite",
        "gradslam-ng run synthetic:living_room --out out --noise kinect",
        "gradslam-ng run realsense: --out out --view",
        "gradslam-ng run FOLDER --out out --realtime",
        "gradslam-ng run FOLDER2 --out out2 --map out",
    ),
    "record": ("gradslam-ng record realsense: --out my_room", "gradslam-ng record oak: --out my_room --seconds 60"),
    "resume": ("gradslam-ng resume out", "gradslam-ng resume out --view"),
    "join": ("gradslam-ng join out out2 out3 --out joined",),
    "sweep": ("gradslam-ng sweep FOLDER1 FOLDER2 --out sweep --jobs 2 --preset fast",),
    "compile": ("gradslam-ng compile", "gradslam-ng compile FOLDER --system kinectfusion --preset accurate"),
    "calibrate": ("gradslam-ng calibrate FOLDER --out camera.json",),
    "evaluate": (
        "gradslam-ng evaluate out",
        "gradslam-ng evaluate groundtruth.txt out/trajectory.txt --align sim3 --json",
    ),
    "mesh": ("gradslam-ng mesh out --voxel-size 0.02", "gradslam-ng mesh out/volume.npz --out room.glb"),
    "plan": ("gradslam-ng plan out --out plan", "gradslam-ng plan out --out plan --start 0.2 0.5 --goal 1.5 2"),
    "optimize": ("gradslam-ng optimize graph.g2o --out optimized --kernel graduated",),
    "synthesize": ("gradslam-ng synthesize living_room --out room",),
    "view": (
        "gradslam-ng view out",
        "gradslam-ng view mesh.glb",
        "gradslam-ng view out --host 0.0.0.0 --port 9000",
        "gradslam-ng view out/map.ply out/trajectory.txt --window",
        "gradslam-ng view out --rerun out.rrd",
    ),
    "info": ("gradslam-ng info FOLDER", "gradslam-ng info FOLDER --depth-scale 1000"),
    "convert": (
        "gradslam-ng convert recording.bag --to tum --out converted",
        "gradslam-ng convert FOLDER --to transforms --trajectory out/trajectory.txt --out converted",
    ),
    "download": ("gradslam-ng download", "gradslam-ng download tum/fr1_desk"),
}

"""The subcommands of `gradslam-ng`, a module each."""

"""Visual odometry of a wheeled robot: how far to trust each image, taught through a smoother's own solution."""

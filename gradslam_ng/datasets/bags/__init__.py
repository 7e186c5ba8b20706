"""Bags of ROS 1 and ROS 2, and of RealSense cameras: storage, messages, cameras, and the sequence made of them."""

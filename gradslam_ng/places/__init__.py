"""Place recognition: keyframes, descriptors, geometric verification, relocalization."""

"""What several demos share: random rooms with a noisy depth sensor, and recordings to judge on."""

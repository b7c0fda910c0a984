"""Training and validation steps on each backend."""

"""Launchers: the local queue and SLURM."""

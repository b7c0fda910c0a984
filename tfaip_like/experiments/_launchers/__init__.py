"""Launchers of runs: the local queue and SLURM."""

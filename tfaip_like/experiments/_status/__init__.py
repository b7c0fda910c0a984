"""Status of runs and batches, determined from their files and the cluster."""

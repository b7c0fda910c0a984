"""Work in other processes: ordered results, named faults, nothing left behind."""

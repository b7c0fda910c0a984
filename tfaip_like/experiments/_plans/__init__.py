"""Plans: configurations, their inheritance, grids and experts, as a list of runs."""

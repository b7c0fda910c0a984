"""Plans: named configurations with inheritance, grids and experts, expanded into a list of runs."""

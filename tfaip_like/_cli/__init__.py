"""The commands; the only place that prints errors and ends the program."""

"""Looking at what a scenario's data are and how fast they come, without training."""

"""Track trigger: experts on parts of the data, filters, resampling, weights for firmware."""

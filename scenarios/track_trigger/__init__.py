"""Track trigger: experts, filters, resampling, fixed-point weights for firmware."""

"""Templates of `new-scenario`: small scenarios in which `Template` and `template` stand for the name."""

"""What `new-scenario` writes: each folder is a whole small scenario in which `Template` and `template` are its name."""

"""Datasets of other libraries as sources; each module knows one library and imports it only when it is used."""

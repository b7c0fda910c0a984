"""Jet tagging: tables in many files, classes of different sizes, missing values, ROC curves."""

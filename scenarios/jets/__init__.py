"""Jet tagging: tables in many files, imbalanced classes, missing values, ROC curves."""

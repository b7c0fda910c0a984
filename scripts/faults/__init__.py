"""Campaigns that interrupt trainings in every way and compare what they leave with an uninterrupted run."""

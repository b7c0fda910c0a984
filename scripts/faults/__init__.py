"""Fault-injection campaigns, which compare interrupted and resumed runs with uninterrupted ones."""

"""HTML reports of single runs and comparisons of several.

They read run directories only, and require neither the scenario's code nor Keras.
"""

"""What became of runs, for a person: the page of one run, and the comparison of several.

It reads what lies in the folders of runs, so it needs neither the scenario's code nor Keras.
"""

"""Line recognition: what tfaip's largest user, Calamari OCR, does. See scenario.py."""

"""Recognition of text lines (OCR) with CTC; see scenario.py."""

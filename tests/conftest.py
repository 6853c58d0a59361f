"""The tests train on the sample, PRESET = "sample" in the three dataset.py, also in the scripts that they start."""
import os

os.environ["PRESET"] = "sample"

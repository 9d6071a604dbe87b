"""Visuals: slides and texts pushed to radios and screens."""

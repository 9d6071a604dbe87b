"""Measurements of Stationmaster against its rivals."""

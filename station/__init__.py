"""Programs that run on a station: standard library only."""

"""The catalogue of all running image streams: the old text, JSON and a page."""

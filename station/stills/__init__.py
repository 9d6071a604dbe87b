"""The station role `stills`: pictures of a list or of a live ingest, sent again and again to whoever asks."""

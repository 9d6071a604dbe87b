"""The station role `visuals`: pictures and texts by topic, pushed to radios and screens."""

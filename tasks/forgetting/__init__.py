"""Removing images from results: what is known of them, by content id, wherever it lies."""

"""The doing: bytes, files, models; in the order in which an image meets them."""

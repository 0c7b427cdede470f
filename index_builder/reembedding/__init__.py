"""Building a second generation of a collection: the same corpus under another checkpoint."""

"""Which tiers should a corpus have? Measured on graphs built over a sample of it."""

"""What there is to report about a collection."""

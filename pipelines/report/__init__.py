"""One self-contained page about a collection."""

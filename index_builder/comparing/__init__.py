"""Two generations of a version side by side, on the same queries."""

"""How a command ended, for a scheduler to act on."""

from typing import Final

# What could be paid for is published; the same command goes on with the rest.
STOPPED_AT_CAP: Final = 4

"""What the storage holds, as immutable values with indexes, and how it is kept up to date."""

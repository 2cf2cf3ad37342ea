"""The storage's catalogue: immutable values with indexes, and the code that keeps them current."""

"""The embedded demonstration: rendered objects, scenes composed of them, one photograph."""

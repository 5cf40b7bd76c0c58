"""Judges say which of two answers is better. `base` defines what they have in common, `build` makes one."""

"""Judges: what says which of two answers is better. `base` tells what they have in common, `build` makes one."""

"""Portraits: what a learned sampler is, in terms that people know (docs/portraits.md)."""

"""Engines turn requests into completions; all draw tokens with our own processors and random numbers."""

from adaptive_samplers.engines.base import Completion, Engine, Request

__all__ = ["Completion", "Engine", "Request"]

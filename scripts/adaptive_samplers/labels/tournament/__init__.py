"""Tournaments between answers to the same prompt, and Bradley-Terry ratings from their soft outcomes."""

from adaptive_samplers.labels.tournament.group import Comparison
from adaptive_samplers.labels.tournament.play import Tournaments, run_tournaments
from adaptive_samplers.labels.tournament.ratings import bradley_terry

__all__ = ["Comparison", "Tournaments", "bradley_terry", "run_tournaments"]

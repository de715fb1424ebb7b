"""LATER: delayed tasks come home when they are due."""

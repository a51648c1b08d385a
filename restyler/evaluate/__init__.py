"""Measurements of finished renderings against the engineers' mixes, of their spread and of their choice."""

"""Spawns agents for agents: from templates, within the parent's budget, tier and cell, and on record."""

"""Allocate bits to layers: the problem in whole numbers, the source's greedy answer and the exact one."""

"""The solvers: ways to choose codes, scales and zero points for one weight."""

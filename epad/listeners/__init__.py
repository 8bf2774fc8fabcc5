"""What every listener needs: letting connections in, limits on them, and who may ask."""

"""What this machine offers to epad, what it lacks, and what to do about each."""

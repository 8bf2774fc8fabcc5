"""What is wrong and who is held, in sentences that are worded in one place."""

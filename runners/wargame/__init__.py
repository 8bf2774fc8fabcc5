"""The wargame: multi-turn scenarios judged by five defender roles, where no failure can pass for a result."""

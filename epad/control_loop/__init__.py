"""The control loop: findings in, decisions out, journalled and carried out step by step."""

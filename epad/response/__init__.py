"""What each phase does: plans of idempotent steps, journalled before they are done."""

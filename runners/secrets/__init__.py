"""What the vault has done by a child: age's encryption, and the talk with a security key."""

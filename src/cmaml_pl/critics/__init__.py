"""Values: what the critics say of a rollout, what they are to say, and how they are fitted to it."""

"""Networks: the actor with its observation normaliser, and the values; how they are used stands elsewhere."""

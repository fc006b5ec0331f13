"""Task families: where tasks are drawn from, and which environment plays them."""

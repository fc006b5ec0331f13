"""Networks and how critics are fitted."""

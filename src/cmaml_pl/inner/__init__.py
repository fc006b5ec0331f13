"""Inner methods: how a policy adapts to one task."""

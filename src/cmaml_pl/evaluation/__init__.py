"""Meta-test and figures."""

"""Critics: the advantages that they give for a rollout, the targets that they are fitted to, and how they are fitted.

`rollout` uses the advantages; the callbacks use targets and fitting.
"""

"""Values: what the critics say of a rollout, what they are to say of it, and how they are fitted.

Advantages are for `rollout`, targets and fitting for the callbacks.
"""

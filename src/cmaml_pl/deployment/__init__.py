"""Strategies of deployment: which policy plays a task's episodes in the meta-test while it adapts.

The algorithm uses `Deployment` and `Deployed`.
"""

"""From YAML and `key=value` to a checked `Config`: its sections, their registry, loading and merging.

`Config`, `load_experiment`, `load_stored`, `flatten` and the names of what conf/ holds are for all that stands higher.
"""

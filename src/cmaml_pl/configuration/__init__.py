"""Turns YAML files and `key=value` overrides into a checked `Config`: sections, registry, loading and merging.

Higher modules use `Config`, `load_experiment`, `load_stored`, `flatten` and the lists of names of the files in conf/.
"""

"""From YAML and `key=value` to a checked `Config`: its sections, their registry, loading and merging."""

"""From YAML and `key=value` to a checked `Config`: its sections, the registry, loading and merging; nothing below reads one."""

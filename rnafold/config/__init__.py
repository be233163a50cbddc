"""Configuration: strict YAML into frozen dataclasses, hardware files, and what they resolve to."""

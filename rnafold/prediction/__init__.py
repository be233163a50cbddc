"""From targets to five predictions each, within time."""

"""Files of the kit's own: mounts, what ships, metrics, run folders."""

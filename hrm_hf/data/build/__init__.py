"""From CSV, JSON and the generators to puzzle files."""

"""Everything that trains many times."""

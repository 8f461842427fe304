"""PostgreSQL on a node: what the pillar declares, where each system keeps it, and how a running server is asked and changed."""

"""A local replacement for X-Ray: receives, stores and shows spans."""

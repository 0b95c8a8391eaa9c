"""PAFT (prompt-agnostic fine-tuning, arXiv 2502.12859) as a distributed Ray application."""

"""DEFINE: what users type."""

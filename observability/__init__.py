"""SEE: the one table of metrics, spans and events, and what writes them."""

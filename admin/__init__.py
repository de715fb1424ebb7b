"""REPAIR: what an operator does, as plain functions; the command line on top only calls them."""

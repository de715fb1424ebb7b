"""A child runs user code; it never consumes and never commits."""

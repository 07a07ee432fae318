"""Who runs it? The only place that knows engine, store and callers together."""

"""Publication of models as revisions: on the hub, in its cache, in folders."""

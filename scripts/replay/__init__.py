"""Any step of a past run, made again on demand and proven."""

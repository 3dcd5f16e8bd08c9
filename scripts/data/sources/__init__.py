"""Where texts come from: packages, files, published shards, canaries."""

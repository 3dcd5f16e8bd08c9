"""What every stage shares: manifests, locks, progress, errors, strict command lines."""

"""The commands of this package: python -m scripts.data --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "fetch": "sources.fetch",
    "documents": "documents",
    "signatures": "dedup.signatures",
    "pairs": "dedup.pairs",
    "clusters": "dedup.clusters",
    "tokenizer": "tokenizer",
    "tokenize": "tokenize",
    "external": "sources.external",
    "join": "join",
    "order": "order",
    "view": "tools.view.view",
    "find": "tools.find.find",
    "export": "tools.export",
    "shard": "tools.shard",
    "unshard": "tools.unshard",
    "cache-names": "tools.cache_names",
}

if __name__ == "__main__":
    dispatch("scripts.data", COMMANDS)

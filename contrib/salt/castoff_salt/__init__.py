"""castoff's glue for Salt: what Salt's loader finds through the entry point group ``salt.loader``."""

__version__ = "0.1.0"

"""Programs that run on a station: the standard library, and the Debian packages that a role names."""

"""Statistics on arrays and tables, of any origin."""

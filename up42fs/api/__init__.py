"""UP42 over HTTP: sign-in, orders, assets, links, STAC. Knows JSON, nothing of files."""

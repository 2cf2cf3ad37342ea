"""Rules for requests to hosts: retries, link expiry, request rates, allowed addresses.

The rules are pure and serve both planes, the API (`api`) and the bytes (`store`). They know no HTTP
library.
"""

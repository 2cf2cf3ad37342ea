"""Rules for talking to hosts: when to retry, when a link expires, how fast to ask, which address is
allowed.

The rules are pure and serve both planes, the API (`api`) and the bytes (`store`). They know no HTTP
library.
"""

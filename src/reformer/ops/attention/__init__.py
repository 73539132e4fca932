"""Attention: the public functions, one value for who sees whom, the definitions, and the engines that compute them fast."""

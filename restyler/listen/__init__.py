"""Listening tests: designed from renders, served to listeners, analysed for a paper."""

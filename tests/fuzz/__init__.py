"""Readers of what others wrote, each given what nobody should have written.

A new reader is one entry in the table of the file that it belongs to.
"""

"""Inputs that went wrong for people, by room, each with the one line that answers it."""
